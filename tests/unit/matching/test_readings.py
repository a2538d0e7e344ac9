from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wav2vec_u.config import DeciphermentConfig, MatchingConfig
from wav2vec_u.matching import readings
from wav2vec_u.matching.decipherment import Deciphered, Decipherment
from wav2vec_u.matching.generator import Generator
from wav2vec_u.matching.readings import (
    BATCH_UTTERANCES,
    decipher,
    distil,
    say,
    scored_utterances,
)
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import PlantedSegments, plant

PLANTED = plant(make_language(1, n_consonants=8, n_vowels=4), utterances=60, sentences=200, dim=12)
SEGMENTS = PLANTED.segments
UTTERANCES = [i for i, split in enumerate(SEGMENTS.splits) if split == "train"]
PHONES = np.arange(1, len(PLANTED.text.phones))
ARCHITECTURE = {"kernel": 3, "dropout": 0.1, "batch_norm": 1.0, "hidden": 32}
TINY = {
    "codes": 16,
    "bigram_iterations": 2,
    "trigram_iterations": 2,
    "final_iterations": 1,
    "generator_epochs": 2,
    "generator_least_updates": 1,
}


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Return (S, V) certain posteriors over the phones without silence, none where there is one."""
    return (labels[:, None] == PHONES).astype(np.float32)


def teach(
    folder: Path,
    posteriors: list[np.ndarray],
    *,
    seed: int = 0,
    epochs: int = 12,
    least_updates: int = 1,
    **architecture: Any,
) -> Generator:
    generator = Generator(
        SEGMENTS.dim, len(PLANTED.text.phones), **{**ARCHITECTURE, **architecture}
    )
    settings = DeciphermentConfig(
        generator_epochs=epochs, generator_least_updates=least_updates, generator_lr=0.02
    )
    folder.mkdir(exist_ok=True)
    distil(generator, SEGMENTS, UTTERANCES, posteriors, PHONES, settings, seed=seed, folder=folder)
    return generator


def probabilities(generator: Generator, i: int) -> np.ndarray:
    vectors = torch.from_numpy(SEGMENTS.vectors(i)).unsqueeze(0)
    with torch.no_grad():
        logits, _ = generator(vectors, torch.ones(1, vectors.shape[1], dtype=torch.bool))
    return np.asarray(logits[0].softmax(-1))


def weights(generator: Generator) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in generator.state_dict().values()])


# --- distil ---


def test_the_generator_says_what_it_was_taught_of_new_utterances_too(tmp_path: Path) -> None:
    generator = teach(tmp_path, [one_hot(SEGMENTS.labels(i)) for i in UTTERANCES])
    assert not generator.training
    for chosen in (UTTERANCES, [i for i in range(len(SEGMENTS)) if i not in UTTERANCES]):
        right = total = 0
        for i in chosen:
            labels = SEGMENTS.labels(i)
            spoken = labels != 0
            read = probabilities(generator, i).argmax(axis=1)
            right += int((read == labels)[spoken].sum())
            total += int(spoken.sum())
        assert right / total > 0.97
    losses = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in losses] == list(range(12))
    assert losses[-1]["distil_loss"] < 0.3 * losses[0]["distil_loss"]


def test_doubt_is_taught_as_doubt(tmp_path: Path) -> None:
    posteriors = [one_hot(SEGMENTS.labels(i)) for i in UTTERANCES]
    often = np.argsort(-np.concatenate(posteriors).sum(axis=0))
    doubted, alternative = often[:2].tolist()  # columns
    for rows in posteriors:
        heard = rows[:, doubted] > 0
        rows[heard, doubted] = 0.7
        rows[heard, alternative] = 0.3
    generator = teach(tmp_path, posteriors)
    said = np.concatenate(
        [probabilities(generator, i)[SEGMENTS.labels(i) == PHONES[doubted]] for i in UTTERANCES]
    )
    assert said[:, PHONES[doubted]].mean() == pytest.approx(0.7, abs=0.1)
    assert said[:, PHONES[alternative]].mean() == pytest.approx(0.3, abs=0.1)


def test_a_stride_is_taught_the_segments_it_looks_at(tmp_path: Path) -> None:
    posteriors = [one_hot(SEGMENTS.labels(i)) for i in UTTERANCES]
    generator = teach(tmp_path, posteriors, stride=2)
    right = total = 0
    for i in UTTERANCES:
        labels = SEGMENTS.labels(i)[::2]
        read = probabilities(generator, i).argmax(axis=1)
        assert len(read) == len(labels)
        right += int((read == labels)[labels != 0].sum())
        total += int((labels != 0).sum())
    assert right / total > 0.9


def test_few_utterances_are_gone_through_more_often(tmp_path: Path) -> None:
    posteriors = [one_hot(SEGMENTS.labels(i)) for i in UTTERANCES]
    batches = -(-len(UTTERANCES) // BATCH_UTTERANCES)
    assert batches == 2
    for least, epochs in ((4, 3), (7, 4)):
        place = tmp_path / str(least)
        teach(place, posteriors, epochs=3, least_updates=least)
        assert len((place / "log.jsonl").read_text().splitlines()) == epochs


def test_teaching_depends_on_the_seed_alone(tmp_path: Path) -> None:
    posteriors = [one_hot(SEGMENTS.labels(i)) for i in UTTERANCES]
    first = teach(tmp_path / "a", posteriors, epochs=2)
    torch.manual_seed(99)
    again = teach(tmp_path / "b", posteriors, epochs=2)
    other = teach(tmp_path / "c", posteriors, epochs=2, seed=1)
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_teaching_disturbs_no_other_random_numbers_and_warns_of_nothing(tmp_path: Path) -> None:
    generator = Generator(SEGMENTS.dim, len(PLANTED.text.phones), **ARCHITECTURE)
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distil(
            generator,
            SEGMENTS,
            UTTERANCES,
            [one_hot(SEGMENTS.labels(i)) for i in UTTERANCES],
            PHONES,
            DeciphermentConfig(generator_epochs=1, generator_least_updates=1),
            seed=0,
            folder=tmp_path,
        )
    assert torch.equal(torch.get_rng_state(), state)


# --- say ---


def test_saying_merges_neighbours_and_drops_silence() -> None:
    # With vectors that are the logits, a generator that passes them on says their arg-max.
    said = [[0, 1, 1, 0, 1, 2, 2, 0], [2, 0, 0, 2]]
    vectors = [4 * np.eye(3, dtype=np.float32)[labels] for labels in said]
    labels = [np.array(one) for one in said]
    source = PlantedSegments(vectors, labels, ["train", "test"])
    generator = Generator(3, 3, kernel=1)
    with torch.no_grad():
        generator.conv.weight.copy_(torch.eye(3).unsqueeze(-1))
    candidate = say(generator, source, [0, 1])
    assert [one.tolist() for one in candidate.hypotheses] == [[1, 1, 2], [2, 2]]
    each = 4 - np.log(np.exp(4) + 2)
    assert candidate.log_prob == pytest.approx(12 * each, rel=1e-5)


def test_scored_utterances_are_training_ones_fixed_by_the_seed() -> None:
    chosen = scored_utterances(SEGMENTS, 0)
    assert chosen == scored_utterances(SEGMENTS, 0) == UTTERANCES  # fewer than the most


def test_no_more_utterances_are_scored_than_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "SCORED_UTTERANCES", 5)
    chosen = scored_utterances(SEGMENTS, 0)
    assert len(chosen) == len(set(chosen)) == 5
    assert chosen != scored_utterances(SEGMENTS, 1)


# --- decipher ---


def run(folder: Path, *, seeds: int = 2, resume: bool = False, **settings: Any) -> Any:
    config = MatchingConfig(
        seeds=seeds, device="cpu", decipherment=DeciphermentConfig(**{**TINY, **settings})
    )
    return decipher(
        folder,
        SEGMENTS,
        PLANTED.text,
        config,
        architecture=ARCHITECTURE,
        resume=resume,
        threads=1,
    )


def test_members_differ_and_do_not_depend_on_each_other(tmp_path: Path) -> None:
    both = run(tmp_path / "a")
    (alone,) = run(tmp_path / "b", seeds=1)
    assert [reading.member for reading in both] == [0, 1]
    assert torch.equal(weights(both[0].generator), weights(alone.generator))
    assert both[0].gain == alone.gain
    assert not torch.equal(weights(both[0].generator), weights(both[1].generator))
    assert not list((tmp_path / "a").glob("member_*/checkpoint.safetensors"))


def test_restarts_take_the_schedules_in_turn(tmp_path: Path) -> None:
    run(tmp_path, seeds=3, trigram_sharpness=(0.4, 0.7))
    logs = [(tmp_path / f"member_{n:02d}/log.jsonl").read_text().splitlines() for n in range(3)]
    assert [json.loads(rows[2])["sharpness"] for rows in logs] == [0.4, 0.7, 0.4]


def test_a_finished_member_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path, seeds=1)
    calls = []
    search = Decipherment.run

    def counted(self: Decipherment, resume: bool) -> Deciphered:
        calls.append(self.folder.name)
        return search(self, resume)

    monkeypatch.setattr(Decipherment, "run", counted)
    both = run(tmp_path, resume=True)
    assert calls == ["member_01"]
    assert torch.equal(weights(both[0].generator), weights(first[0].generator))
    assert both[0].gain == first[0].gain
    run(tmp_path, resume=False)
    assert calls == ["member_01", "member_00", "member_01"]


def test_killed_while_teaching_and_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"bigram_iterations": 5, "trigram_iterations": 2, "final_iterations": 3}
    whole = run(tmp_path / "whole", **settings)

    def killed(*_: Any, folder: Path, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(readings, "distil", killed)
        run(tmp_path / "cut", **settings)
    assert (tmp_path / "cut/member_00/checkpoint.safetensors").exists()
    found = run(tmp_path / "cut", resume=True, **settings)
    for one, other in zip(found, whole, strict=True):
        assert one.gain == other.gain
        assert torch.equal(weights(one.generator), weights(other.generator))
    logs = [(tmp_path / name / "member_00/log.jsonl").read_text() for name in ("cut", "whole")]
    assert logs[0] == logs[1]


def test_only_so_many_segments_of_the_training_split_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    class Spy(Decipherment):
        def __init__(self, codes: list[np.ndarray], *args: Any, **options: Any) -> None:
            read.append(sum(len(code) for code in codes))
            super().__init__(codes, *args, **options)

    monkeypatch.setattr(readings, "Decipherment", Spy)
    run(tmp_path / "some", seeds=1, max_total_segments=300)
    run(tmp_path / "all", seeds=1)
    assert 200 < read[0] <= 300
    assert read[1] == sum(len(SEGMENTS.vectors(i)) for i in UTTERANCES)


def test_too_few_segments_are_said_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"matching: \d+ segments .* into 5000 codes; .*codes"):
        run(tmp_path, codes=5_000)
    assert not list(tmp_path.iterdir())
