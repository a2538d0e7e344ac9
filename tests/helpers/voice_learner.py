"""Self-training on the voice that the matching has half understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from half_understood import HalfUnderstood, tiny
from numpy.typing import NDArray
from round_folders import place_of
from same_weights import same_weights

from wav2vec_u.config import SelftrainConfig
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.matching.decipherment import CodeLanguage
from wav2vec_u.matching.frame_hmm import FrameHmm, mean_probabilities
from wav2vec_u.matching.generator import Generator, log_probs
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.selftrain.rounds import SelfTraining

FEW = 8  # utterances, where little is to be learned


@dataclass(frozen=True)
class Learner:
    """Self-training on the planted voice, in a folder."""

    made: HalfUnderstood
    language: CodeLanguage

    def training(
        self,
        folder: Path,
        config: SelftrainConfig,
        *,
        utterances: Sequence[int] | None = None,
        start: Generator | None = None,
        synthetic: bool = True,
        graph: SearchSettings | None = None,
        threads: int = 1,
    ) -> SelfTraining:
        folder.mkdir(parents=True, exist_ok=True)
        return SelfTraining(
            folder,
            self.made.store,
            list(self.made.train if utterances is None else utterances),
            start or self.made.start,
            self.language,
            config,
            synthetic=self.made.said if synthetic else None,
            graph=graph,
            threads=threads,
        )

    def quick(self, folder: Path, **options: Any) -> SelfTraining:
        """Train on a few utterances, as little as may be."""
        config = options.pop("config", None) or tiny()
        return self.training(folder, config, utterances=self.few, **options)

    @property
    def few(self) -> list[int]:
        return self.made.train[:FEW]

    def read_rate(self, model: FrameModel) -> float:
        return self.made.error_rate(
            model.read([self.made.store.vectors(i) for i in self.made.test])
        )

    def greedy_rate(self, model: FrameModel) -> float:
        return self.made.error_rate(
            log_probs(model.generator, self.made.store.vectors(i)) for i in self.made.test
        )

    def before(self) -> FrameModel:
        """The matching's generator, as the phone trigram reads it."""
        said = [log_probs(self.made.start, self.made.store.vectors(i)) for i in self.made.train]
        return FrameModel(
            self.made.start,
            FrameHmm(self.language, mean_probabilities(said), power=1.0, stay=0.7),
        )

    def truth(self, utterances: Sequence[int] | None = None) -> NDArray[np.int64]:
        chosen = self.made.train if utterances is None else utterances
        return np.concatenate([self.made.planted.labels(i) for i in chosen])


def model_of(folder: Path, number: int) -> FrameModel:
    return FrameModel.load(place_of(folder, number))


def same_model(one: FrameModel, other: FrameModel) -> bool:
    assert one.mixtures is not None
    assert other.mixtures is not None
    return (
        same_weights(one.generator, other.generator)
        and np.array_equal(one.hmm.prior, other.hmm.prior)
        and np.array_equal(one.mixtures.means_, other.mixtures.means_)
        and np.array_equal(one.mixtures.projection_, other.mixtures.projection_)
    )
