"""What is counted in the text, for terms of the generator that ask no discriminator."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.batches import TextSource
from wav2vec_u.matching.gan.hyperparameters import Weights
from wav2vec_u.matching.gan.layout import Layout
from wav2vec_u.matching.gan.positions import position_distance, position_tables
from wav2vec_u.matching.gan.skipgrams import skipgram_distance, skipgram_tables


class TextStatistics(NamedTuple):
    """Tables of the text; None where no member asks for them.

    Attributes
    ----------
    skipgrams : Tensor or None
        See `skipgrams.skipgram_tables`.
    positions : Tensor or None
        See `positions.position_tables`.
    """

    skipgrams: Tensor | None = None
    positions: Tensor | None = None

    @classmethod
    def of(
        cls, text: TextSource, n_symbols: int, config: GanConfig, seed: int, device: torch.device
    ) -> TextStatistics:
        """Count what the settings ask for."""
        skipgrams = positions = None
        if any(config.skipgrams):
            skipgrams = skipgram_tables(text, n_symbols, seed).to(device)
        if any(config.positions):
            positions = position_tables(text, n_symbols, seed).to(device)
        return cls(skipgrams, positions)

    def distances(
        self, probabilities: Tensor, layout: Layout, weights: Weights
    ) -> dict[str, Tensor]:
        """Return how far (E, N, V) distributions are from the text, weighted, (E,) each."""
        terms = {}
        if self.skipgrams is not None:
            distance = skipgram_distance(probabilities, layout, self.skipgrams)
            terms["skipgrams"] = weights.skipgrams * distance
        if self.positions is not None:
            distance = position_distance(probabilities, layout, self.positions)
            terms["positions"] = weights.positions * distance
        return terms
