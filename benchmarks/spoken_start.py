"""Claim: synthetic speech starts what decipherment cannot start, and confident hard labels go on.

A real voice, no label: espeak-ng reads the unpaired text in its language; a small network learns to
tell the phones of its frames; a hidden Markov model with the text's trigram reads the frames of the
real voice; what it is sure of becomes the labels of the next network, beside the synthetic frames,
which hold the phones in place. Printed is the phone error rate on split `test` after every round;
nothing else reads a transcript.

    python benchmarks/spoken_start.py --run RUN [--encoder base] [--layer 4] [--rounds 6]

RUN is the folder of a `wav2vec-u run` of a manifest with transcripts (its `corpus`, `silence` and
`text` are read). The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from wav2vec_u.config import ScriptConfig
from wav2vec_u.corpus.manifest import read_recordings
from wav2vec_u.corpus.references import read_references
from wav2vec_u.encoder.encode import FRAME_SAMPLES
from wav2vec_u.encoder.shipped import find_encoder
from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.evaluate.pronounce import Pronouncer
from wav2vec_u.features.own import OwnEncoder
from wav2vec_u.matching.decipherment import CodeLanguage, learn_language
from wav2vec_u.matching.ngram_hmm import expect
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.pretrain.spoken import read_scripts
from wav2vec_u.silence.speech import load_waveform, read_speech
from wav2vec_u.synthesis.speech import speak
from wav2vec_u.text.corpus import PhoneText

BATCH = 16  # utterances for the encoder
CROP = 100  # frames: what the network learns from at once
CROPS = 32  # in a batch
POWER = 0.5  # of likelihoods, which frames that overlap would otherwise count twice
SURE = 0.5  # posterior above which the best phone is a label
MIN_PHONE_SHARE = 0.002

Frames = NDArray[np.float32]


class FrameNetwork(nn.Module):
    """Phones of frames, with three frames around each in view; the last output is the pause."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)
        self.context = nn.Conv1d(dim, 256, 7, padding=3)
        self.output = nn.Conv1d(256, outputs, 1)
        self.dropout = nn.Dropout(0.3)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Map frames, (B, D, T), to logits, (B, outputs, T)."""
        hidden = F.gelu(self.context(self.dropout(self.norm(frames))))
        logits: torch.Tensor = self.output(self.dropout(hidden))
        return logits


def main() -> None:
    """Run the claim."""
    given = _parse()
    torch.set_num_threads(given.threads)
    started = time.perf_counter()
    encoder = OwnEncoder(
        find_encoder(given.encoder) or Path(given.encoder), layer=given.layer, device="cpu"
    )
    pipeline = Pipeline.from_run(given.run)
    text = PhoneText(given.run / "text")
    language = learn_language(text, MIN_PHONE_SHARE)
    names = [text.phones[i] for i in language.phones.tolist()]

    utterances = read_speech(given.run / "silence")
    real = _encode(encoder, [load_waveform(item, "cut")[0] for item in utterances])
    train = [i for i, item in enumerate(utterances) if item.split == "train" and len(real[i])]
    test = [i for i, item in enumerate(utterances) if item.split == "test" and len(real[i])]
    said, labels = _speak(encoder, pipeline, names, given.hours, given.threads)
    said = _match_moments(said, [real[i] for i in train])
    recordings = [utterances[i].recording for i in test]
    references = _references(given.run, pipeline, sorted(set(recordings)))
    print(f"{len(said)} synthetic and {len(real)} real utterances", flush=True)

    pause = len(names)
    targets = [_one_hot(row, pause + 1) for row in labels]
    network = _teach(said, targets, epochs=8, seed=0)
    known = np.concatenate(labels)
    prior = np.bincount(known[known >= 0], minlength=pause + 1) + 1.0
    prior /= prior.sum()
    rates = []
    with ThreadPoolExecutor(given.threads) as threads:
        for number in range(given.rounds + 1):
            scores = {i: _log_probs(network, real[i]) for i in train + test}
            voiced = {i: np.exp(rows[:, pause]) < 0.5 for i, rows in scores.items()}
            if number > 0:
                prior = np.mean([np.exp(scores[i]).mean(axis=0) for i in train], axis=0)
            heard = _read(scores, voiced, prior + 1e-4, language, given.stay, threads)
            rates.append(_error_rate([heard[i] for i in test], recordings, references, names))
            seconds = time.perf_counter() - started
            print(f"round {number}: PER {rates[-1]:.1f}, {seconds:.0f} s", flush=True)
            if number < given.rounds:
                sure = [_labels(heard[i], voiced[i]) for i in train]
                network = _teach(
                    said[::2] + [real[i] for i in train], targets[::2] + sure, 5, number + 1
                )
    seconds = round(time.perf_counter() - started, 1)
    result = {"name": "spoken_start", "per_by_round": [round(rate, 2) for rate in rates]}
    print(json.dumps({**result, "recordings": len(references), "seconds": seconds}))


def _encode(encoder: OwnEncoder, waveforms: Sequence[NDArray[np.float32]]) -> list[Frames]:
    found: dict[int, Frames] = {}
    order = np.argsort([len(waveform) for waveform in waveforms]).tolist()
    for first in range(0, len(order), BATCH):
        batch = order[first : first + BATCH]
        for i, frames in zip(batch, encoder.encode([waveforms[i] for i in batch]), strict=True):
            found[i] = frames.astype(np.float32)
    return [found[i] for i in range(len(waveforms))]


def _speak(
    encoder: OwnEncoder, pipeline: Pipeline, names: list[str], hours: float, workers: int
) -> tuple[list[Frames], list[NDArray[np.int64]]]:
    """Let the text be said; frames, and for each the phone, the pause, or -1 for other phones."""
    inputs = pipeline.inputs
    scripts = read_scripts([ScriptConfig(file=inputs.given_text(), voices=(inputs.language,))])
    codes = {"": len(names), **{name: code for code, name in enumerate(names)}}
    with tempfile.TemporaryDirectory() as folder:
        said = list(speak(Path(folder), scripts, hours, 0, workers))
    frames = _encode(
        encoder, [item.samples.astype(np.float32) / np.float32(32_768) for item in said]
    )
    labels = [
        np.array([codes.get(phone, -1) for phone in item.labels(FRAME_SAMPLES)]) for item in said
    ]
    lengths = [min(len(rows), len(row)) for rows, row in zip(frames, labels, strict=True)]
    return (
        [rows[:length] for rows, length in zip(frames, lengths, strict=True)],
        [row[:length] for row, length in zip(labels, lengths, strict=True)],
    )


def _match_moments(frames: list[Frames], like: list[Frames]) -> list[Frames]:
    """Give frames the mean and variance of others, number by number."""
    source, target = np.concatenate(frames), np.concatenate(like)
    scale = target.std(axis=0) / np.maximum(source.std(axis=0), 1e-5)
    shift = target.mean(axis=0) - source.mean(axis=0) * scale
    return [np.asarray(rows * scale + shift, dtype=np.float32) for rows in frames]


def _one_hot(labels: NDArray[np.int64], outputs: int) -> Frames:
    known = (labels >= 0)[:, None]
    return np.asarray(np.eye(outputs, dtype=np.float32)[np.maximum(labels, 0)] * known)


def _teach(frames: list[Frames], targets: list[Frames], epochs: int, seed: int) -> FrameNetwork:
    """Teach a new network by cross-entropy; rows of zeros ask for nothing."""
    torch.manual_seed(seed)
    network = FrameNetwork(frames[0].shape[1], targets[0].shape[1])
    crops = [
        (i, start)
        for i, rows in enumerate(frames)
        for start in range(0, len(rows) - CROP + 1, CROP)
    ]
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    steps = epochs * -(-len(crops) // CROPS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)
    network.train()
    for _ in range(epochs):
        order = rng.permutation(len(crops)).tolist()
        for first in range(0, len(order), CROPS):
            batch = [crops[place] for place in order[first : first + CROPS]]
            heard = np.stack([frames[i][start : start + CROP] for i, start in batch])
            wanted = np.stack([targets[i][start : start + CROP] for i, start in batch])
            scores = F.log_softmax(network(torch.from_numpy(heard).transpose(1, 2)), dim=1)
            loss = -(torch.from_numpy(wanted).transpose(1, 2) * scores).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.inference_mode()
def _log_probs(network: FrameNetwork, frames: Frames) -> Frames:
    logits = network(torch.from_numpy(frames).T[None])[0].T  # (T, outputs)
    scores: Frames = F.log_softmax(logits, -1).numpy()
    return scores


def _read(
    scores: dict[int, Frames],
    voiced: dict[int, NDArray[np.bool_]],
    prior: NDArray[np.floating],
    language: CodeLanguage,
    stay: float,
    threads: ThreadPoolExecutor,
) -> dict[int, Frames]:
    """Return p(phone | utterance) of the frames that are no pause, (T', V) each."""
    v = len(language.phones)
    rows = {i: scores[i][voiced[i], :v] for i in scores}
    likelihoods = np.exp(POWER * (np.concatenate(list(rows.values())) - np.log(prior[:v])))
    likelihoods /= likelihoods.max(axis=1, keepdims=True)
    ends = np.cumsum([len(row) for row in rows.values()])
    posteriors = np.zeros((len(likelihoods), v), dtype=np.float32)
    expect(
        3,
        np.arange(len(likelihoods), dtype=np.int32),
        np.concatenate([[0], ends]).astype(np.int64),
        likelihoods.astype(np.float32),
        language.transitions,
        stay,
        posteriors,
        threads,
    )
    return dict(zip(rows, np.split(posteriors, ends[:-1]), strict=True))


def _labels(posteriors: Frames, voiced: NDArray[np.bool_]) -> Frames:
    """Return labels of all frames: the best phone where it is sure, else none; or the pause."""
    v = posteriors.shape[1]
    labels = np.zeros((len(voiced), v + 1), dtype=np.float32)
    labels[~voiced, v] = 1
    sure = (posteriors.max(axis=1, initial=0) > SURE)[:, None]
    labels[np.flatnonzero(voiced), :v] = np.eye(v)[posteriors.argmax(axis=1)] * sure
    return labels


def _references(run: Path, pipeline: Pipeline, recordings: list[str]) -> dict[str, list[str]]:
    """Pronounce the transcripts of recordings, as far as they have one."""
    inputs = pipeline.inputs
    transcripts = read_references(inputs.given_references(), read_recordings(run / "corpus"))
    pronouncer = Pronouncer(run / "text", inputs.config.text, inputs.language)
    spoken = pronouncer.pronounce([transcripts.get(name, "") for name in recordings])
    return {name: phones for name, phones in zip(recordings, spoken, strict=True) if phones}


def _error_rate(
    posteriors: list[Frames],
    recordings: list[str],
    references: dict[str, list[str]],
    names: list[str],
) -> float:
    """Compare recordings, whose utterances lie one behind the other, with their references."""
    heard: dict[str, list[str]] = {name: [] for name in references}
    for rows, name in zip(posteriors, recordings, strict=True):
        if name in references:
            heard[name] += [names[phone] for phone, _ in groupby(rows.argmax(axis=1).tolist())]
    errors = [count_errors(reference, heard[name]) for name, reference in references.items()]
    return pool(errors).rate


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a run")
    parser.add_argument("--encoder", default="base", help="or the folder of one of ours")
    parser.add_argument("--layer", type=int, default=4, help="block, from 0")
    parser.add_argument("--hours", type=float, default=1.5, help="of synthetic speech")
    parser.add_argument("--rounds", type=int, default=6, help="of self-training")
    parser.add_argument("--stay", type=float, default=0.6, help="that a frame keeps the phone")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
