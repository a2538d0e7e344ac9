"""What a round hands to the next: labels of the recordings, and synthetic speech beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.matching.frame_teacher import UNKNOWN, Lesson
from wav2vec_u.matching.ngram_hmm import Floats
from wav2vec_u.matching.synthetic import SyntheticSegments
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator

BLOCK_SEGMENTS = 8_192  # read at once, which bounds the memory

Labels = NDArray[np.int32]


class Source(Protocol):
    """What labels belong to: segments, or frames."""

    def length(self, i: int, /) -> int: ...
    def vectors(self, i: int, /) -> Floats: ...


def blocks(utterances: Iterable[Floats], least: int) -> Iterator[list[Floats]]:
    """Put utterances together until they have so many segments.

    >>> [len(block) for block in blocks([np.zeros((2, 1))] * 5, least=4)]
    [2, 2, 1]
    """
    block: list[Floats] = []
    for item in utterances:
        block.append(item)
        if sum(map(len, block)) >= least:
            yield block
            block = []
    if block:
        yield block


def sure_labels(posteriors: Floats, sure: float) -> Labels:
    """Label the segments (S, V) whose best output is likelier than `sure`; the others are unknown.

    >>> sure_labels(np.array([[0.95, 0.05], [0.4, 0.6]]), sure=0.9).tolist()
    [0, -1]
    """
    best = posteriors.argmax(axis=1)
    return np.where(posteriors.max(axis=1) > sure, best, UNKNOWN).astype(np.int32)


def read_labels(path: Path, segments: Source, utterances: Sequence[int]) -> list[Labels]:
    """Read the labels that a round has left, one array for each utterance.

    Raises
    ------
    UserError
        If the file is missing or damaged, or its labels are not those of the utterances.
    """
    ends = np.cumsum([segments.length(i) for i in utterances])
    try:
        labels = np.load(path)
        if len(labels) != ends[-1]:
            raise ValueError("is of other recordings")
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged; remove {path.parent.parent} and run again") from error
    return np.split(labels, ends[:-1])


def recorded_lessons(
    segments: Source, utterances: Sequence[int], labels: Sequence[Labels]
) -> list[Lesson]:
    """Pair utterances with their labels."""
    return [
        Lesson(partial(segments.vectors, i), own) for i, own in zip(utterances, labels, strict=True)
    ]


def synthetic_lessons(synthetic: SyntheticSegments, share: float, seed: int) -> list[Lesson]:
    """Draw a share of the synthetic utterances, in their order."""
    count = len(synthetic)
    order = numpy_generator(seed, "synthetic share").permutation(count)
    return [
        Lesson(partial(synthetic.vectors, i), synthetic.labels(i))
        for i in sorted(order[: round(share * count)].tolist())
    ]
