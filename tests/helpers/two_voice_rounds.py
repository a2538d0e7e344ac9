"""Rounds from synthetic speech to recordings, on two voices of a made-up language.

The second voice is not only in another room: each of its phones is off on its own, so that what is
learned of the first voice goes wrong on the second until its own labels are learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from two_voices import two_voices

from wav2vec_u.config import MatchingConfig, SyntheticConfig
from wav2vec_u.matching.frame_hmm import HMM_NAME, FrameHmm
from wav2vec_u.matching.generator import Generator, load_generator
from wav2vec_u.matching.rounds import GENERATOR_NAME, Heard, learn_in_rounds
from wav2vec_u.matching.synthetic import SyntheticSegments
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.testing.language import make_language

VOICES = two_voices(
    make_language(1, n_consonants=8, n_vowels=4), synthetic=40, real=75, shift=1.3, noise=0.8
)
REAL = VOICES.real
TRAIN = [i for i, split in enumerate(REAL.splits) if split == "train"]
TEST = [i for i, split in enumerate(REAL.splits) if split == "test"]
# The noise of a planted segment is its own: nothing is counted twice, and one segment is enough.
LEARNING: dict[str, Any] = {
    "rounds": 2,
    "min_phone_share": 0.0,
    "power": 1.0,
    "stay_probability": 0.7,
    "sure": 0.5,
    "synthetic_share": 0.5,
    "generator_kernel": 1,
    "generator_hidden": 32,
    "generator_dropout": 0.1,
    "start_epochs": 20,
    "epochs": 8,
    "learning_rate": 0.01,
}
# Too little to learn much, but all that is done is done.
TINY = {**LEARNING, "generator_hidden": 8, "start_epochs": 2, "epochs": 1}


def matching(seeds: int = 1, seed: int = 0, **settings: Any) -> MatchingConfig:
    return MatchingConfig(
        method="synthetic",
        seeds=seeds,
        seed=seed,
        device="cpu",
        synthetic=SyntheticConfig(**settings),
    )


@dataclass(frozen=True)
class BothVoices:
    """Both voices on disk."""

    real: SegmentStore
    synthetic: SyntheticSegments

    def learn(self, folder: Path, config: MatchingConfig, resume: bool = False) -> list[Heard]:
        return learn_in_rounds(
            folder,
            self.real,
            self.synthetic,
            VOICES.text,
            config,
            utterances=TRAIN,
            scored=TRAIN[:10],
            resume=resume,
            threads=1,
        )


def generator_of(folder: Path) -> Generator:
    return load_generator(folder / GENERATOR_NAME)


def hmm_of(folder: Path) -> FrameHmm:
    return FrameHmm.load(folder / HMM_NAME)


def error_rate(hypotheses: Sequence[NDArray[np.integer]], utterances: Sequence[int]) -> float:
    """Phone error rate of planted utterances, percent."""
    truth = [REAL.truth(i).tolist() for i in utterances]
    heard = [hypothesis.tolist() for hypothesis in hypotheses]
    errors = sum(Levenshtein.distance(h, t) for h, t in zip(heard, truth, strict=True))
    return 100 * errors / sum(map(len, truth))
