"""Frames as a stream of blocks, so that nothing that learns from them holds the corpus.

Whatever learns here (k-means, PCA) takes ``Blocks``: a callable that starts a fresh pass over the
same frames. The stream is regrouped into blocks of one size before any arithmetic, so that a
result depends on the frames and their order, and not on how a reader happened to cut them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wav2vec_u.runtime.errors import UserError

FloatArray = npt.NDArray[np.float32]
Blocks = Callable[[], Iterable[FloatArray]]

BLOCK_FRAMES = 4096  # 2 MiB of distances to 128 centroids: stays near the processor's caches


class FrameSource(Protocol):
    """What the segments stage needs of `features.store.FrameStore`."""

    def __len__(self) -> int: ...

    @property
    def splits(self) -> Sequence[str]: ...

    @property
    def frame_rate_hz(self) -> float: ...

    def frames(self, i: int, /) -> FloatArray: ...


def rechunk(blocks: Iterable[FloatArray], rows: int = BLOCK_FRAMES) -> Iterator[FloatArray]:
    """Regroup blocks of any lengths into blocks of `rows` rows; only the last may be shorter.

    >>> [len(block) for block in rechunk([np.zeros((3, 2)), np.zeros((4, 2))], rows=5)]
    [5, 2]
    """
    buffer: FloatArray | None = None
    filled = 0
    for block in blocks:
        taken = 0
        while taken < len(block):
            if buffer is None:
                buffer = np.empty((rows, block.shape[1]), dtype=np.float32)
            count = min(rows - filled, len(block) - taken)
            buffer[filled : filled + count] = block[taken : taken + count]
            filled += count
            taken += count
            if filled == rows:
                yield buffer
                buffer = None  # the consumer may keep what it was given
                filled = 0
    if buffer is not None:
        yield buffer[:filled]


def reservoir_sample(
    blocks: Iterable[FloatArray], size: int, rng: np.random.Generator
) -> tuple[FloatArray, int]:
    """Draw up to `size` rows uniformly, without replacement, in one pass over a stream.

    Vitter (1985), *Random sampling with a reservoir*, algorithm R.

    Parameters
    ----------
    blocks : iterable of ndarray, shape (n, D)
        The stream.
    size : int
        Rows to keep; a shorter stream is kept whole and in order.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    sample : ndarray, shape (min(size, N), D), float32
    n_rows : int
        N, the length of the stream.
    """
    kept: list[FloatArray] = []
    sample: FloatArray | None = None
    seen = 0
    for block in rechunk(blocks):
        fresh = block
        if seen < size:
            head, fresh = block[: size - seen], block[size - seen :]
            kept.append(head)
            seen += len(head)
        if len(fresh) == 0:
            continue
        if sample is None:
            sample = np.concatenate(kept)
            kept = []
        # Row number t (from 0) takes slot j, uniform in 0...t, where that slot exists.
        slots = (rng.random(len(fresh)) * np.arange(seen + 1, seen + len(fresh) + 1)).astype(int)
        inside = slots < size
        sample[slots[inside]] = fresh[inside]
        seen += len(fresh)
    if sample is None:
        sample = np.concatenate(kept) if kept else np.empty((0, 0), dtype=np.float32)
    return sample, seen


def is_usable(frames: FloatArray) -> bool:
    """Tell whether an utterance has frames and all of them are finite."""
    return len(frames) > 0 and bool(np.isfinite(frames).all())


def train_utterances(source: FrameSource) -> list[int]:
    """Return the utterances that may be learned from: those of split ``train``.

    Raises
    ------
    UserError
        If there are none.
    """
    chosen = [i for i, split in enumerate(source.splits) if split == "train"]
    if not chosen:
        raise UserError(
            "segments: no utterance is in split `train`; name some `train` in the manifest"
        )
    return chosen


def train_blocks(source: FrameSource) -> Blocks:
    """Stream the usable frames of the training utterances, one block an utterance."""
    chosen = train_utterances(source)

    def blocks() -> Iterator[FloatArray]:
        for i in chosen:
            frames = source.frames(i)
            if is_usable(frames):
                yield frames

    return blocks
