"""Exact principal components from one pass over the frames.

The paper reduces frames to 512 dimensions by PCA before they are averaged (section 3.2). Mean and
scatter of the blocks are merged in float64 (Chan, Golub and LeVeque, 1979), and one
eigendecomposition of the covariance ends the pass, so the result is that of all frames at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.blocks import Blocks, FloatArray, rechunk
from wav2vec_u.segments.fitted import require_fitted


@dataclass(frozen=True)
class Moments:
    """Count, mean (D,) and scatter (D, D): the sum of outer products of centred frames."""

    count: int
    mean: npt.NDArray[np.float64]
    scatter: npt.NDArray[np.float64]

    @classmethod
    def of(cls, frames: FloatArray) -> Moments:
        """Sum up one block of frames, shape (T, D), T > 0."""
        points = frames.astype(np.float64)
        mean = points.mean(axis=0)
        centred = points - mean
        return cls(len(frames), mean, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Combine the moments of two disjoint sets of frames."""
        count = self.count + other.count
        shift = other.mean - self.mean
        return Moments(
            count,
            self.mean + shift * (other.count / count),
            self.scatter
            + other.scatter
            + np.outer(shift, shift) * (self.count * other.count / count),
        )


class PCA:
    """Principal component analysis over a stream of frames.

    Parameters
    ----------
    n_components : int
        Output dimension; capped at the dimension of the frames.

    Attributes
    ----------
    mean_ : ndarray, shape (D,), float64
    components_ : ndarray, shape (P, D), float64
        Orthonormal rows, the direction of most variance first. The entry of greatest magnitude in
        each row is positive, so that the sign depends on the data alone.
    explained_variance_ : ndarray, shape (P,), float64
    explained_variance_ratio_ : ndarray, shape (P,), float64
        Shares of the total variance (zeros where the frames do not vary at all).
    """

    mean_: npt.NDArray[np.float64]
    components_: npt.NDArray[np.float64]
    explained_variance_: npt.NDArray[np.float64]
    explained_variance_ratio_: npt.NDArray[np.float64]

    def __init__(self, n_components: int = 512) -> None:
        self.n_components = n_components

    def fit(self, blocks: Blocks) -> PCA:
        """Learn mean and components.

        Parameters
        ----------
        blocks : callable
            Each call returns a fresh iterable of blocks of frames, shape (n, D); one pass is made.

        Raises
        ------
        UserError
            If there are fewer than two frames.
        """
        moments: Moments | None = None
        for block in rechunk(blocks()):
            part = Moments.of(block)
            moments = part if moments is None else moments.merge(part)
        if moments is None or moments.count < 2:
            raise UserError("segments: PCA needs at least two frames; give more audio")
        covariance = moments.scatter / (moments.count - 1)
        values, vectors = np.linalg.eigh(covariance)  # ascending
        values = values[::-1].clip(min=0)
        components = vectors.T[::-1][: self.n_components]
        largest = np.abs(components).argmax(axis=1)
        signs = np.sign(components[np.arange(len(components)), largest])
        total = values.sum()
        self.mean_ = moments.mean
        self.components_ = components * signs[:, None]
        self.explained_variance_ = values[: self.n_components]
        self.explained_variance_ratio_ = self.explained_variance_ / (total if total > 0 else 1.0)
        return self

    def transform(self, frames: FloatArray) -> FloatArray:
        """Project frames or means of frames, shape (T, D), onto the components, shape (T, P)."""
        require_fitted(self, "components_")
        return ((frames - self.mean_) @ self.components_.T).astype(np.float32)
