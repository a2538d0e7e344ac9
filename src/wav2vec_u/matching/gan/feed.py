"""What every member hears and reads in an update.

All members see the same utterances, sentences and random draws, so that one pass serves them all,
and what sets them apart is where they began and what they are trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.batches import (
    SegmentSource,
    SpeechBatches,
    TextBatches,
    TextSource,
    pad_vectors,
)
from wav2vec_u.matching.gan.auxiliary import NO_CODE
from wav2vec_u.matching.gan.layout import Layout
from wav2vec_u.matching.gan.segmenters import pre_segment
from wav2vec_u.matching.gan.text_statistics import TextStatistics
from wav2vec_u.runtime.seeds import numpy_generator, torch_generator

Codes = Callable[[int], NDArray[np.integer]]  # (S,) of an utterance


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
    codes : Tensor or None
        (L,) int64: what `auxiliary.code_loss` asks for, if anything.
    """

    vectors: Tensor
    mask: Tensor
    outputs: Tensor
    layout: Layout
    codes: Tensor | None

    @classmethod
    def of(
        cls, vectors: Tensor, mask: Tensor, kernel: int, stride: int, codes: Tensor | None = None
    ) -> Row:
        """Lay out a batch for a generator's kernel and stride.

        Parameters
        ----------
        vectors, mask : Tensor
            (B, S, P) and (B, S) bool.
        kernel, stride : int
        codes : Tensor or None
            The code of every segment, one utterance behind the other.
        """
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
        in_row = None
        if codes is not None:
            in_row = torch.full((total * stride,), NO_CODE)
            in_row[place] = codes
        return cls(row, heard, outputs, layout, in_row)

    def to(self, device: torch.device) -> Row:
        """Return the row on a device."""
        layout = Layout(*(part.to(device) for part in self.layout))
        codes = None if self.codes is None else self.codes.to(device)
        return Row(
            self.vectors.to(device), self.mask.to(device), self.outputs.to(device), layout, codes
        )


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
    codes : callable or None
        Gives the codes of an utterance for `GanConfig.auxiliary`.
    """

    def __init__(
        self,
        segments: SegmentSource,
        text: TextSource,
        config: GanConfig,
        seed: int,
        codes: Codes | None = None,
    ) -> None:
        if any(config.auxiliary) and codes is None:
            raise ValueError("matching.gan.auxiliary: there are no codes to tell")
        self.dim = segments.dim
        self.n_phones = len(text.phones)
        self.seed = seed
        self._segments = segments
        self._sentences = text
        self._config = config
        self._codes = codes if any(config.auxiliary) else None
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

    def codes(self, update: int) -> Tensor | None:
        """Return the codes of all segments of `speech`, one utterance behind the other, or None."""
        if self._codes is None:
            return None
        codes = [self._codes(i) for i in self._speech.members(update)]
        return torch.from_numpy(np.concatenate(codes).astype(np.int64))

    def text(self, update: int) -> tuple[Tensor, Tensor]:
        """Return phone ids (B, L), zero in the padding, and their mask (B, L)."""
        return self._text.batch(update)

    def text_statistics(self, device: torch.device) -> TextStatistics:
        """Count what the settings ask of the text."""
        return TextStatistics.of(self._sentences, self.n_phones, self._config, self.seed, device)

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
