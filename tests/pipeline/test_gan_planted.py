"""The GAN learns planted features without labels.

Settings were found on this data: kernel 1, because a segment's phone does not depend on its
neighbours, and learning rates some times those of the reference, whose batches are larger and
whose discriminator is wider. A member takes off or does not: half of them do in 1,000 updates, to
phone error rates below 0.3 (`benchmarks/gan_convergence.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from wav2vec_u.config import GanConfig, MatchingConfig
from wav2vec_u.matching.batches import training_utterances
from wav2vec_u.matching.channel import Channel
from wav2vec_u.matching.decipherment import learn_language
from wav2vec_u.matching.gan.layout import Layout, join
from wav2vec_u.matching.gan.train import train_gan
from wav2vec_u.matching.generator import Generator
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import Planted, plant

LANGUAGE = make_language(0, n_consonants=12, n_vowels=5)
PLANTED = plant(LANGUAGE)


class BigramModel:
    """Bigrams of the text with one added to every count."""

    def __init__(self, planted: Planted) -> None:
        size = len(planted.text.phones)
        counts = np.ones((size, size))
        for i in range(len(planted.text)):
            ids = np.r_[0, planted.text.sentence(i), 0]
            np.add.at(counts, (ids[:-1], ids[1:]), 1)
        self.log10 = np.log10(counts / counts.sum(1, keepdims=True))

    def log10_prob(self, sentence: Sequence[int]) -> float:
        ids = np.r_[0, np.asarray(sentence, dtype=np.int64), 0]
        return float(self.log10[ids[:-1], ids[1:]].sum())


def config(updates: int, seeds: int = 1, **gan: float) -> MatchingConfig:
    settings = {
        "generator_kernel": 1,
        "generator_dropout": 0.0,
        "discriminator_dim": 64,
        "batch_size": 32,
        "generator_lr": 0.01,
        "discriminator_lr": 0.002,
        "updates": updates,
        "checkpoint_every": 250,
        "score_utterances": 60,
    }
    gan_config = GanConfig(**(settings | gan), reviews=(0.5,))
    return MatchingConfig(seeds=seeds, device="cpu", gan=gan_config)


def phone_error_rate(generator: Generator, split: str) -> float:
    """Greedy phone error rate, percent."""
    errors = phones = 0
    for i, its_split in enumerate(PLANTED.segments.splits):
        if its_split != split:
            continue
        vectors = torch.from_numpy(PLANTED.segments.vectors(i)).unsqueeze(0)
        with torch.no_grad():
            logits, mask = generator(vectors, torch.ones(1, vectors.shape[1], dtype=torch.bool))
            joined, _ = join(logits, Layout.of(mask.sum(1)), None)
            ids = joined[0].argmax(-1).numpy()
        truth = PLANTED.segments.truth(i)
        errors += Levenshtein.distance(ids[ids != 0].tolist(), truth.tolist())
        phones += len(truth)
    return 100 * errors / phones


def log_rows(folder: Path, member: int) -> list[dict[str, float]]:
    log = (folder / f"member_{member:02d}/log.jsonl").read_text()
    return [json.loads(line) for line in log.splitlines()]


def test_gan_learns_from_nothing(tmp_path: Path) -> None:
    settings = config(600, seeds=2, checkpoint_every=50)  # the first before anything is learned
    results = train_gan(tmp_path, PLANTED.segments, PLANTED.text, settings, BigramModel(PLANTED))
    channel = Channel(
        PLANTED.segments,
        training_utterances(PLANTED.segments),
        learn_language(PLANTED.text, 0.0),
        n_codes=100,
        stay=0.2,
        seed=0,
        threads=1,
    )
    result = max(results, key=lambda each: channel.gain(each.generator))
    assert phone_error_rate(result.generator, "test") <= 10
    # Learning is to be seen without labels too: the language model likes the transcripts more,
    # and their statistics come near those of text.
    rows = log_rows(tmp_path, result.member)
    perplexities = [row["lm_ppl"] for row in rows if "lm_ppl" in row]
    assert perplexities[-1] < 0.75 * perplexities[0]
    assert rows[-1]["generator_skipgrams"] < 0.7 * rows[0]["generator_skipgrams"]
    assert result.score is not None
    assert result.score.usage > 0.8


def test_gan_mends_a_generator_that_is_80_percent_right(tmp_path: Path) -> None:
    # Measured: 24.5 before, 0.6 after 500 updates; 79 where the discriminator has no head start.
    size = len(PLANTED.text.phones)
    right = torch.from_numpy(PLANTED.centres / np.linalg.norm(PLANTED.centres, axis=1)[:, None])
    names = np.arange(size)
    counts = np.bincount(
        np.concatenate([PLANTED.segments.truth(i) for i in range(len(PLANTED.segments))]),
        minlength=size,
    )
    swapped = np.argsort(-counts)[[6, 7, 8, 9]]
    names[swapped] = np.roll(swapped, 1)
    start = Generator(PLANTED.segments.dim, size, kernel=1)
    with torch.no_grad():
        start.conv.weight.copy_(right[names].unsqueeze(-1))
    before = phone_error_rate(start.eval(), "train")
    assert 15 < before < 45
    (result,) = train_gan(
        tmp_path,
        PLANTED.segments,
        PLANTED.text,
        config(400),
        BigramModel(PLANTED),
        start=start.state_dict(),
    )
    assert phone_error_rate(result.generator, "train") < before / 2
