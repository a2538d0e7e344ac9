"""A small model of frames, drawn at random, and what a network says of frames for it to read.

Six outputs: the pause, three phones that are states, and two that are too rare to be any.
"""

from __future__ import annotations

import numpy as np

from wav2vec_u.matching.decipherment import CodeLanguage
from wav2vec_u.matching.frame_hmm import FrameHmm
from wav2vec_u.matching.ngram_hmm import Floats, PhoneTransitions

OUTPUTS = 6
PAUSE = 0
STATES = np.array([1, 3, 4])
RARE = [2, 5]


def random_language(rng: np.random.Generator, mass: float = 1.0) -> CodeLanguage:
    """Draw transitions; a `mass` below one leaves something for the end of a sentence."""
    n = len(STATES)
    tables = (
        rng.dirichlet(np.full(n, 3.0)),
        mass * rng.dirichlet(np.full(n, 3.0), size=n),
        mass * rng.dirichlet(np.full(n, 3.0), size=(n, n + 1)),
    )
    return CodeLanguage(STATES, PhoneTransitions(*(table.astype(np.float32) for table in tables)))


def model(seed: int = 0, *, power: float = 0.6, stay: float = 0.4, mass: float = 1.0) -> FrameHmm:
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.full(OUTPUTS, 4.0)).astype(np.float32)
    return FrameHmm(random_language(rng, mass), prior, power, stay)


def spoken(length: int, seed: int) -> Floats:
    """Return log-probabilities, none of them of a pause."""
    rng = np.random.default_rng(seed)
    pause = rng.uniform(0.01, 0.45, size=(length, 1))
    rows = (1 - pause) * rng.dirichlet(np.full(OUTPUTS - 1, 1.0), size=length)
    logs: Floats = np.log(np.concatenate([pause, rows], axis=1)).astype(np.float32)
    return logs


def pauses(length: int, share: float = 0.9) -> Floats:
    rows = np.full((length, OUTPUTS), (1 - share) / (OUTPUTS - 1), dtype=np.float32)
    rows[:, PAUSE] = share
    logs: Floats = np.log(rows)
    return logs


def join(*pieces: Floats) -> Floats:
    return np.concatenate(pieces)


def corpus(count: int = 30) -> list[Floats]:
    lengths = np.random.default_rng(5).integers(0, 30, size=count)
    return [
        join(spoken(int(length), seed), pauses(seed % 4)) for seed, length in enumerate(lengths)
    ]
