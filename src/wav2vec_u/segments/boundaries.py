"""Where one segment ends and the next begins.

A boundary stands wherever the cluster of a frame differs from that of the frame before it. The
paper takes each frame's nearest cluster (section 3.2). That gives about twice as many segments as
there are phones, so the duration-penalised path chooses the clusters together: it minimises

    Σ_t |x_t − c_{z_t}|²  +  penalty · (number of t with z_t ≠ z_{t−1})

(Kamper and van Niekerk, 2021, *Towards unsupervised phone and word segmentation using
self-supervised vector-quantized neural networks*, with a constant penalty a segment). At penalty 0
the two are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt

from wav2vec_u.segments.blocks import FloatArray

RATE_TOLERANCE = 0.002  # relative; well inside what a corpus and a sample of it differ by
MAX_HALVINGS = 50  # float64 is exhausted by then


def run_bounds(codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return the runs of equal neighbours: first frame and the one after the last, shape (S, 2).

    >>> run_bounds(np.array([5, 5, 2, 5], dtype=np.int32)).tolist()
    [[0, 2], [2, 3], [3, 4]]
    """
    if len(codes) == 0:
        return np.empty((0, 2), dtype=np.int32)
    changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    edges = np.concatenate([[0], changes, [len(codes)]])
    return np.stack([edges[:-1], edges[1:]], axis=1).astype(np.int32)


def bounds_in_seconds(
    bounds: npt.NDArray[np.int32], frame_times: npt.NDArray[np.float32], frame_rate_hz: float
) -> npt.NDArray[np.float32]:
    """Turn bounds in frames, shape (S, 2), into start and end in the recording, shape (S, 2).

    Parameters
    ----------
    bounds : ndarray, shape (S, 2)
    frame_times : ndarray, shape (T,)
        Start of each frame in the original recording, seconds.
    frame_rate_hz : float
        A segment ends one period after its last frame starts. The next segment may begin later:
        silence may have been cut out between the two.
    """
    starts = frame_times[bounds[:, 0]]
    ends = frame_times[bounds[:, 1] - 1] + 1.0 / frame_rate_hz
    return np.stack([starts, ends], axis=1).astype(np.float32)


def penalised_path(distances: FloatArray, penalty: float) -> npt.NDArray[np.int32]:
    """Choose one cluster a frame at the least total of distances and penalties for changes.

    Exact, in O(T·K): the best predecessor of a change is the best of all clusters.

    Parameters
    ----------
    distances : ndarray, shape (T, K), float32
        Squared distance of each frame to each centroid.
    penalty : float
        Cost of one change of cluster, in the unit of the distances; not negative.

    Returns
    -------
    ndarray, shape (T,), int32
        Cluster of each frame.
    """
    if penalty < 0:
        raise ValueError(f"the penalty must not be negative, and is {penalty}")
    if len(distances) == 0:
        return np.empty(0, dtype=np.int32)
    path: npt.NDArray[np.int32] = _penalised_path(np.ascontiguousarray(distances), float(penalty))
    return path


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _penalised_path(distances: FloatArray, penalty: float) -> npt.NDArray[np.int32]:
    n_frames, n_clusters = distances.shape
    cost = distances[0].astype(np.float64)  # of the best path that ends in each cluster
    changed = np.zeros((n_frames, n_clusters), dtype=np.bool_)  # did that path change at t?
    origin = np.zeros(n_frames, dtype=np.int32)  # the cluster at t − 1 that changes leave from
    for t in range(1, n_frames):
        best = np.argmin(cost)
        origin[t] = best
        change = cost[best] + penalty
        for k in range(n_clusters):
            if change < cost[k]:
                changed[t, k] = True
                cost[k] = change + distances[t, k]
            else:
                cost[k] += distances[t, k]
    path = np.empty(n_frames, dtype=np.int32)
    path[n_frames - 1] = np.argmin(cost)
    for t in range(n_frames - 1, 0, -1):
        path[t - 1] = origin[t] if changed[t, path[t]] else path[t]
    return path


def find_penalty(
    distances: Sequence[FloatArray],
    *,
    frame_rate_hz: float,
    target_rate_hz: float,
    pairs: bool = False,
) -> float:
    """Find the penalty at which a sample of utterances has the wanted rate of segments.

    The number of segments never rises with the penalty, so halving the interval finds it.

    Parameters
    ----------
    distances : sequence of ndarray, each of shape (T, K)
        Squared distances of the frames of each utterance to the centroids; T > 0.
    frame_rate_hz : float
        Frames a second.
    target_rate_hz : float
        Wanted segments a second of speech.
    pairs : bool
        Count segments after adjacent pairs are pooled.

    Returns
    -------
    float
        0 where the nearest clusters already give fewer segments than wanted. Where the target is
        below one segment an utterance, a penalty that leaves one.
    """
    seconds = sum(len(utterance) for utterance in distances) / frame_rate_hz

    def rate(penalty: float) -> float:
        counts = [len(run_bounds(penalised_path(utterance, penalty))) for utterance in distances]
        return sum((count + 1) // 2 if pairs else count for count in counts) / seconds

    low = 0.0
    if rate(low) <= target_rate_hz:
        return low
    lowest_rate = len(distances) / seconds
    high = float(np.mean([utterance.mean() for utterance in distances]))
    while rate(high) > max(target_rate_hz, lowest_rate):
        low, high = high, 2 * high
    if target_rate_hz <= lowest_rate:
        return high
    for _ in range(MAX_HALVINGS):
        middle = (low + high) / 2
        reached = rate(middle)
        if abs(reached - target_rate_hz) <= RATE_TOLERANCE * target_rate_hz:
            return middle
        if reached > target_rate_hz:
            low = middle
        else:
            high = middle
    return high
