"""Batches for the GAN: utterances of segments, and unpaired text.

The batch of an update is a function of the seed and the update's number alone, so that a resumed
run sees what the uninterrupted one would have seen without any state to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator

MIN_SEGMENTS = 3  # reference: shorter utterances are left out
COUNTED_SENTENCES = 4_000  # that statistics of the text are counted in


class SegmentSource(Protocol):
    """What is needed of `segments.store.SegmentStore`."""

    @property
    def dim(self) -> int: ...
    @property
    def splits(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def vectors(self, i: int, /) -> NDArray[np.float32]: ...


class TextSource(Protocol):
    """What is needed of `text.corpus.PhoneText`."""

    @property
    def phones(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def sentence(self, i: int, /) -> NDArray[np.int32]: ...
    def sentence_with_silence(self, i: int, rng: np.random.Generator, /) -> NDArray[np.int32]: ...


class Order:
    """Endless shuffled order of items: every item once an epoch, a new order each epoch.

    >>> order = Order(count=3, seed=0, purpose="speech")
    >>> sorted(int(item) for item in order.items(0, 3))
    [0, 1, 2]
    """

    def __init__(self, count: int, seed: int, purpose: str) -> None:
        self._count = count
        self._seed = seed
        self._purpose = purpose
        self._epoch = -1
        self._shuffled: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def items(self, start: int, size: int) -> list[int]:
        """Return the items at places ``start, ..., start + size - 1``."""
        return [self._item(place) for place in range(start, start + size)]

    def _item(self, place: int) -> int:
        epoch, offset = divmod(place, self._count)
        if epoch != self._epoch:
            rng = numpy_generator(self._seed, self._purpose, epoch)
            self._shuffled = rng.permutation(self._count)
            self._epoch = epoch
        return int(self._shuffled[offset])


class SpeechBatches:
    """Padded batches of training utterances.

    Parameters
    ----------
    segments : SegmentSource
        Utterances of split ``train`` with at least `MIN_SEGMENTS` segments are used.
    batch_size : int
        Utterances in a batch, at most as many as there are.
    seed : int
        Seed of the order.

    Raises
    ------
    UserError
        If no utterance is left.
    """

    def __init__(self, segments: SegmentSource, batch_size: int, seed: int) -> None:
        self._segments = segments
        self.utterances = training_utterances(segments)
        self.batch_size = min(batch_size, len(self.utterances))
        self._order = Order(len(self.utterances), seed, "speech order")

    def batch(self, update: int) -> tuple[Tensor, Tensor]:
        """Return vectors (B, S, P), zero in the padding, and the mask (B, S)."""
        return pad_vectors([self._segments.vectors(i) for i in self.members(update)])

    def members(self, update: int) -> list[int]:
        """Return the utterances of a batch, as indices into the segments."""
        items = self._order.items(update * self.batch_size, self.batch_size)
        return [self.utterances[item] for item in items]


class TextBatches:
    """Batches of sentences with silence.

    Parameters
    ----------
    text : TextSource
        Sentences; their silence is drawn anew every time.
    batch_size : int
        Sentences in a batch.
    seed : int
        Seed of order and silence.
    with_replacement : bool
        Draw sentences independently, with one silence drawn for each sentence and kept, as the
        reference does; otherwise every sentence comes once an epoch.

    Raises
    ------
    UserError
        If there is no sentence.
    """

    def __init__(
        self, text: TextSource, batch_size: int, seed: int, *, with_replacement: bool = False
    ) -> None:
        if len(text) == 0:
            raise UserError("text: holds no sentence; check `min_sentence_phones` and the input")
        self._text = text
        self.batch_size = batch_size
        self._seed = seed
        self._with_replacement = with_replacement
        self._order = Order(len(text), seed, "text order")

    def batch(self, update: int) -> tuple[Tensor, Tensor]:
        """Return phone ids (B, L) int64, zero in the padding, and the mask (B, L)."""
        rng = numpy_generator(self._seed, "text batch", update)
        sentences = []
        if self._with_replacement:
            for item in rng.integers(len(self._text), size=self.batch_size).tolist():
                fixed = numpy_generator(self._seed, "silence", item)
                sentences.append(self._text.sentence_with_silence(item, fixed))
        else:
            for item in self._order.items(update * self.batch_size, self.batch_size):
                sentences.append(self._text.sentence_with_silence(item, rng))
        ids = np.zeros((len(sentences), max(map(len, sentences))), dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=bool)
        for row, sentence in enumerate(sentences):
            ids[row, : len(sentence)] = sentence
            mask[row, : len(sentence)] = True
        return torch.from_numpy(ids), torch.from_numpy(mask)


def silent_sentences(text: TextSource, seed: int, purpose: str) -> Iterator[NDArray[np.int32]]:
    """Yield sentences to count in, silence drawn as for the discriminator: at most 4,000."""
    rng = numpy_generator(seed, purpose)
    for i in rng.permutation(len(text))[:COUNTED_SENTENCES].tolist():
        yield text.sentence_with_silence(i, rng)


def training_utterances(segments: SegmentSource) -> list[int]:
    """Return the utterances that can be learnt from.

    Raises
    ------
    UserError
        If there is none.
    """
    train = [index for index, split in enumerate(segments.splits) if split == "train"]
    if not train:
        raise UserError("segments: no recording is in split `train`; mend the splits in the input")
    usable = [index for index in train if len(segments.vectors(index)) >= MIN_SEGMENTS]
    if not usable:
        raise UserError(
            f"segments: no training utterance has {MIN_SEGMENTS} segments; recordings are too short"
        )
    return usable


def pad_vectors(items: list[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Stack utterances (S_i, P) into vectors (B, S, P) with a mask (B, S)."""
    longest = max(len(item) for item in items)
    vectors = np.zeros((len(items), longest, items[0].shape[1]), dtype=np.float32)
    mask = np.zeros((len(items), longest), dtype=bool)
    for row, item in enumerate(items):
        vectors[row, : len(item)] = item
        mask[row, : len(item)] = True
    return torch.from_numpy(vectors), torch.from_numpy(mask)


def draw_within(
    utterances: Sequence[int], size: Callable[[int], float], room: float, rng: np.random.Generator
) -> list[int]:
    """Draw utterances at random until their sizes fill the room; at least one.

    Returns
    -------
    list of int
        Sorted.

    Examples
    --------
    >>> draw_within([4, 7, 9], lambda i: 2.0, 4.5, np.random.default_rng(0))
    [4, 9]
    """
    chosen: list[int] = []
    for place in rng.permutation(len(utterances)).tolist():
        room -= size(utterances[place])
        if room < 0 and chosen:
            break
        chosen.append(utterances[place])
    return sorted(chosen)
