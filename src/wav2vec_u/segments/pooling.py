"""One vector for each segment.

Bounds are rows of (first frame, frame after the last); each begins where the one before it ends.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wav2vec_u.segments.blocks import FloatArray


def mean_over_bounds(frames: FloatArray, bounds: npt.NDArray[np.int32]) -> FloatArray:
    """Average the frames, shape (T, D), of each segment: shape (S, D) (paper, section 3.2).

    PCA is linear, so averaging before or after it is the same, and before it is cheaper.
    """
    if len(bounds) == 0:
        return np.empty((0, frames.shape[1]), dtype=np.float32)
    sums = np.add.reduceat(frames, bounds[:, 0], axis=0, dtype=np.float64)
    lengths = bounds[:, 1] - bounds[:, 0]
    means: FloatArray = (sums / lengths[:, None]).astype(np.float32)
    return means


def mean_of_pairs(vectors: FloatArray) -> FloatArray:
    """Average adjacent pairs of segments, (S, P) to (⌈S / 2⌉, P); an odd last one stays as it is.

    Segments of a pair weigh the same, however long they are (reference: ``mean_pool.py`` at a
    subsample rate of 0.5, which pads an odd tail with itself).
    """
    pooled = vectors[::2].copy()
    seconds = vectors[1::2]
    pooled[: len(seconds)] = (pooled[: len(seconds)] + seconds) / 2
    return pooled


def bounds_of_pairs(bounds: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Join the bounds of adjacent pairs of segments, (S, 2) to (⌈S / 2⌉, 2)."""
    joined = bounds[::2].copy()
    seconds = bounds[1::2]
    joined[: len(seconds), 1] = seconds[:, 1]
    return joined


def codes_of_pairs(
    codes: npt.NDArray[np.int32], bounds: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Give each pair the code of its longer segment, or of the first where both are as long."""
    lengths = bounds[:, 1] - bounds[:, 0]
    chosen = codes[::2].copy()
    n_pairs = len(codes) // 2
    second_is_longer = lengths[1::2] > lengths[::2][:n_pairs]
    chosen[:n_pairs][second_is_longer] = codes[1::2][second_is_longer]
    return chosen
