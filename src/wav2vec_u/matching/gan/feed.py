"""What every member hears and reads in an update.

All members see the same utterances, sentences and random draws, so that one pass serves them all,
and what sets them apart is where they began and what they are trained with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.batches import (
    SegmentSource,
    SpeechBatches,
    TextBatches,
    TextSource,
    pad_vectors,
)
from wav2vec_u.matching.gan.layout import Layout
from wav2vec_u.matching.gan.segmenters import pre_segment
from wav2vec_u.matching.gan.skipgrams import text_tables
from wav2vec_u.runtime.seeds import numpy_generator, torch_generator


class Row(NamedTuple):
    """Utterances one behind the other, as one long one that a `Generator` can take.

    Attributes
    ----------
    vectors : Tensor
        (1, L, P), with zeros between the utterances, so that no kernel sees two of them.
    mask : Tensor
        (1, L) bool.
    outputs : Tensor
        (N,) int64: which of the generator's steps belong to utterances.
    layout : Layout
        Of these N steps, with E = 1.
    """

    vectors: Tensor
    mask: Tensor
    outputs: Tensor
    layout: Layout

    @classmethod
    def of(cls, vectors: Tensor, mask: Tensor, kernel: int, stride: int) -> Row:
        """Lay out (B, S, P) vectors and their mask for a generator's kernel and stride."""
        lengths = mask.sum(1)
        steps = -(-lengths // stride)  # of the output
        gap = -(-(kernel - 1) // stride)
        first = (steps + gap).cumsum(0) - (steps + gap)  # in steps of the output
        total = int((steps + gap).sum())
        position = torch.arange(mask.shape[1]).expand(mask.shape)
        place = (first.unsqueeze(1) * stride + position)[mask]
        row = vectors.new_zeros(1, total * stride, vectors.shape[-1])
        row[0, place] = vectors[mask]
        heard = torch.zeros(1, total * stride, dtype=torch.bool)
        heard[0, place] = True
        layout = Layout.of(steps)
        outputs = first[layout.utterance[0]] + layout.position[0]
        return cls(row, heard, outputs, layout)

    def to(self, device: torch.device) -> Row:
        """Return the row on a device."""
        layout = Layout(*(part.to(device) for part in self.layout))
        return Row(self.vectors.to(device), self.mask.to(device), self.outputs.to(device), layout)


class Feed:
    """Batches of an update, by its number alone.

    Parameters
    ----------
    segments : SegmentSource
        Split ``train`` is used.
    text : TextSource
        ``phones[0]`` is the silence.
    config : GanConfig
    seed : int
    """

    def __init__(
        self, segments: SegmentSource, text: TextSource, config: GanConfig, seed: int
    ) -> None:
        self.dim = segments.dim
        self.n_phones = len(text.phones)
        self.seed = seed
        self._segments = segments
        self._sentences = text
        self._config = config
        self._speech = SpeechBatches(segments, config.batch_size, seed)
        self._text = TextBatches(
            text, self._speech.batch_size, seed, with_replacement=config.reference
        )
        picker = numpy_generator(seed, "gan scored utterances")
        count = min(config.score_utterances, len(self._speech.utterances))
        picked = picker.choice(self._speech.utterances, size=count, replace=False)
        self._scored: list[int] = sorted(picked.tolist())

    def speech(self, update: int) -> tuple[Tensor, Tensor]:
        """Return vectors (B, S, P) and their mask (B, S), shortened as the segmenter asks."""
        rng = torch_generator(self.seed, "segmenter", update)
        return self._shorten(*self._speech.batch(update), rng)

    def text(self, update: int) -> tuple[Tensor, Tensor]:
        """Return phone ids (B, L), zero in the padding, and their mask (B, L)."""
        return self._text.batch(update)

    def text_tables(self) -> Tensor:
        """Return the skip-grams of the text; see `skipgrams.text_tables`."""
        return text_tables(self._sentences, self.n_phones, self.seed)

    def scored(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the utterances that checkpoints are scored on, in batches like `speech`."""
        size = self._speech.batch_size
        for first in range(0, len(self._scored), size):
            items = self._scored[first : first + size]
            rng = torch_generator(self.seed, "segmenter of the scored", first)
            yield self._shorten(*pad_vectors([self._segments.vectors(i) for i in items]), rng)

    def _shorten(
        self, vectors: Tensor, mask: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return pre_segment(self._config.segmenter, vectors, mask, self._config.segmenter_rate, rng)
