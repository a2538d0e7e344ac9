"""k-means that streams: a sample to start from, then Lloyd's algorithm over every frame.

The paper clusters the frames of the training audio into 128 clusters (section 3.2); the published
code holds all of them in memory. Here a small part of a bounded sample is seeded by k-means++ and
clustered several times; the best result goes on over the whole sample, and then over all frames in
blocks, where few passes are left to make. A pass needs only sums, counts and the inertia of each
block, which merge exactly across blocks and processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.segments.blocks import Blocks, FloatArray, rechunk, reservoir_sample
from wav2vec_u.segments.fitted import require_fitted

STARTING_FRAMES_PER_CLUSTER = 256  # enough to tell a good start from a bad one (faiss: 256)
TOLERANCE = 1e-4  # Lloyd's algorithm ends when a pass lowers the inertia by a smaller share
STARTING_TOLERANCE = 1e-3  # starts are only ranked: the best of them goes on


@dataclass(frozen=True)
class LloydStatistics:
    """Sufficient statistics of one Lloyd iteration for K clusters of D-dimensional frames.

    Attributes
    ----------
    sums : Tensor, shape (K, D), float64
        Sum of the frames nearest to each centroid.
    counts : Tensor, shape (K,), int64
        Number of those frames.
    inertia : float
        Sum of squared distances of all frames to their nearest centroid.
    farthest : Tensor, shape (D,), float32
        The frame farthest from its centroid.
    farthest_distance : float
        Its squared distance.
    """

    sums: torch.Tensor
    counts: torch.Tensor
    inertia: float
    farthest: torch.Tensor
    farthest_distance: float

    def merge(self, other: LloydStatistics) -> LloydStatistics:
        """Combine the statistics of two disjoint sets of frames."""
        farther = self if self.farthest_distance >= other.farthest_distance else other
        return LloydStatistics(
            sums=self.sums + other.sums,
            counts=self.counts + other.counts,
            inertia=self.inertia + other.inertia,
            farthest=farther.farthest,
            farthest_distance=farther.farthest_distance,
        )


@dataclass(frozen=True)
class LloydResult:
    """Where Lloyd's algorithm ended; `inertia` is that of `centroids` over all frames."""

    centroids: torch.Tensor  # (K, D) float32
    inertia: float
    n_frames: int
    n_iterations: int  # updates of the centroids


def squared_distances(frames: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Return squared Euclidean distances, shape (T, K), by one matrix product."""
    # |x|² − 2x·c + |c|² cancels badly in float32 where frames lie far from the origin.
    centre = centroids.mean(dim=0)
    x = frames - centre
    c = centroids - centre
    distances = torch.addmm((c * c).sum(dim=1), x, c.T, alpha=-2)
    return distances.add_(torch.linalg.vector_norm(x, dim=1, keepdim=True).square()).clamp_(min=0)


def lloyd_statistics(frames: torch.Tensor, centroids: torch.Tensor) -> LloydStatistics:
    """Assign a block of frames, shape (T, D), to its nearest centroids and sum it up."""
    distances = squared_distances(frames, centroids)  # (T, K)
    # NumPy finds the arg-min of short rows several times as fast as torch does.
    codes = torch.from_numpy(distances.numpy().argmin(axis=1))  # (T,)
    nearest = distances.gather(1, codes[:, None])[:, 0]  # (T,)
    n_clusters = len(centroids)
    sums = torch.zeros(centroids.shape, dtype=torch.float64)
    sums.index_add_(0, codes, frames.double())
    far = int(nearest.argmax())
    return LloydStatistics(
        sums=sums,
        counts=torch.bincount(codes, minlength=n_clusters),
        inertia=float(nearest.sum(dtype=torch.float64)),
        farthest=frames[far].clone(),
        farthest_distance=float(nearest[far]),
    )


def lloyd(
    blocks: Blocks, centroids: torch.Tensor, n_iterations: int, tolerance: float = TOLERANCE
) -> LloydResult:
    """Run Lloyd's algorithm over a stream of frames.

    It ends after `n_iterations` updates, or as soon as a pass lowers the inertia by a smaller
    share than `tolerance`. Of the empty clusters, one an iteration is moved to the frame
    that lies farthest from its centroid: several at once would all land in the same far corner.

    Parameters
    ----------
    blocks : callable
        Starts a pass over the frames.
    centroids : Tensor, shape (K, D), float32
        Where to start.
    n_iterations : int
        Most updates.
    tolerance : float
        Relative; see above.
    """
    previous = float("inf")
    reseeded = False
    for iteration in range(n_iterations + 1):
        statistics = _pass(blocks(), centroids)
        has_empty = bool((statistics.counts == 0).any())
        settled = statistics.inertia >= (1 - tolerance) * previous
        # A cluster that stays empty right after it was moved has no frame to win: give up on it.
        if iteration == n_iterations or (settled and (reseeded or not has_empty)):
            break
        centroids = _update(statistics, centroids)
        reseeded = has_empty
        previous = statistics.inertia
    return LloydResult(centroids, statistics.inertia, int(statistics.counts.sum()), iteration)


def _pass(blocks: Iterable[FloatArray], centroids: torch.Tensor) -> LloydStatistics:
    total: LloydStatistics | None = None
    for block in rechunk(blocks):
        part = lloyd_statistics(torch.from_numpy(block), centroids)
        total = part if total is None else total.merge(part)
    if total is None:
        raise ValueError("k-means was given no frames")
    return total


def _update(statistics: LloydStatistics, centroids: torch.Tensor) -> torch.Tensor:
    counts = statistics.counts[:, None]  # (K, 1)
    means = (statistics.sums / counts.clamp(min=1)).float()
    updated = torch.where(counts > 0, means, centroids)
    empty = torch.nonzero(statistics.counts == 0)[:, 0]
    if len(empty) > 0:
        updated[empty[0]] = statistics.farthest
    return updated


def kmeans_plus_plus(
    frames: torch.Tensor, n_clusters: int, rng: np.random.Generator
) -> torch.Tensor:
    """Choose starting centroids far from each other.

    Arthur and Vassilvitskii (2007), with several candidates a step of which the best is kept, as
    scikit-learn does.

    Parameters
    ----------
    frames : Tensor, shape (N, D), float32
    n_clusters : int
        K, at most N.
    rng : numpy.random.Generator

    Returns
    -------
    Tensor, shape (K, D), float32
    """
    n_candidates = 2 + int(np.log(n_clusters))
    points = frames - frames.mean(dim=0)  # see squared_distances
    norms = (points * points).sum(dim=1)  # (N,)

    def distances_to(rows: torch.Tensor) -> torch.Tensor:
        products = torch.addmm(norms[rows, None], points[rows], points.T, alpha=-2)
        return products.add_(norms).clamp_(min=0)  # (len(rows), N)

    chosen = [int(rng.integers(len(points)))]
    closest = distances_to(torch.tensor(chosen))[0]  # (N,) to the nearest chosen so far
    for _ in range(1, n_clusters):
        cumulative = closest.cumsum(dim=0, dtype=torch.float64)
        draws = torch.from_numpy(rng.random(n_candidates)) * cumulative[-1]
        candidates = torch.searchsorted(cumulative, draws, right=True)
        candidates.clamp_(max=len(points) - 1)  # where rounding puts a draw past the end
        distances = torch.minimum(distances_to(candidates), closest)
        best = int(distances.sum(dim=1, dtype=torch.float64).argmin())
        chosen.append(int(candidates[best]))
        closest = distances[best]
    return frames[torch.tensor(chosen)]


class KMeans:
    """k-means over a stream of frames (paper, section 3.2).

    Parameters
    ----------
    n_clusters : int
        K.
    n_iterations : int
        Most Lloyd iterations of a start, over the sample, and over all frames.
    n_restarts : int
        Starts that are tried on a part of the sample; the one of least inertia goes on.
    seed : int
        Same seed and same frames give the same centroids.
    sample_frames : int
        Frames of the sample; all of them where the stream is shorter.

    Attributes
    ----------
    centroids_ : ndarray, shape (K, D), float32
    inertia_ : float
        Sum of squared distances of all frames to their nearest centroid.
    n_frames_ : int
        Number of frames learned from.
    n_iterations_ : int
        Updates of the last run of Lloyd's algorithm.
    """

    centroids_: FloatArray
    inertia_: float
    n_frames_: int
    n_iterations_: int

    def __init__(
        self,
        n_clusters: int = 128,
        n_iterations: int = 50,
        n_restarts: int = 3,
        seed: int = 0,
        sample_frames: int = 400_000,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_iterations = n_iterations
        self.n_restarts = n_restarts
        self.seed = seed
        self.sample_frames = sample_frames

    def fit(self, blocks: Blocks) -> KMeans:
        """Learn centroids.

        Parameters
        ----------
        blocks : callable
            Each call returns a fresh iterable of blocks of frames, shape (n, D).

        Raises
        ------
        UserError
            If there are fewer frames than clusters.
        """
        sample, n_frames = reservoir_sample(
            blocks(),
            max(self.sample_frames, self.n_clusters),
            numpy_generator(self.seed, "kmeans sample"),
        )
        if n_frames < self.n_clusters:
            raise UserError(
                f"segments.clusters: {self.n_clusters} clusters cannot be learned from "
                f"{n_frames} frames; give more audio or lower it"
            )
        start = self._best_start(sample)
        best = lloyd(lambda: [sample], start.centroids, self.n_iterations)
        if n_frames > len(sample):
            best = lloyd(blocks, best.centroids, self.n_iterations)
        self.centroids_ = best.centroids.numpy()
        self.inertia_ = best.inertia
        self.n_frames_ = best.n_frames
        self.n_iterations_ = best.n_iterations
        return self

    def _best_start(self, sample: FloatArray) -> LloydResult:
        rng = numpy_generator(self.seed, "kmeans starts")
        n_starting = STARTING_FRAMES_PER_CLUSTER * self.n_clusters
        if n_starting < len(sample):
            frames = sample[rng.choice(len(sample), n_starting, replace=False)]
        else:
            frames = sample
        results = []
        for _ in range(self.n_restarts):
            seeds = kmeans_plus_plus(torch.from_numpy(frames), self.n_clusters, rng)
            results.append(lloyd(lambda: [frames], seeds, self.n_iterations, STARTING_TOLERANCE))
        return min(results, key=lambda result: result.inertia)

    def distances(self, frames: FloatArray) -> FloatArray:
        """Return the squared distance of each frame to each centroid.

        Parameters
        ----------
        frames : ndarray, shape (T, D)

        Returns
        -------
        ndarray, shape (T, K), float32
        """
        require_fitted(self, "centroids_")
        points = torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32))
        distances: FloatArray = squared_distances(points, torch.from_numpy(self.centroids_)).numpy()
        return distances

    def predict(self, frames: FloatArray) -> npt.NDArray[np.int32]:
        """Return the nearest cluster of each frame, shape (T,), int32."""
        codes: npt.NDArray[np.int32] = self.distances(frames).argmin(axis=1).astype(np.int32)
        return codes
