"""Mean and variance of frames, gathered piece by piece."""

from __future__ import annotations

import numpy as np

STD_FLOOR = 1e-5  # a coefficient that never changes becomes 0, not a division by zero


class Moments:
    """Running count, sum and sum of squares of frames, in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.total: np.ndarray | float = 0.0  # (D,) after the first frames
        self.squares: np.ndarray | float = 0.0

    def add(self, frames: np.ndarray) -> Moments:
        """Take in frames of shape (T, D), and return this object."""
        values = frames.astype(np.float64)
        self.count += len(values)
        self.total = self.total + values.sum(axis=0)
        self.squares = self.squares + (values**2).sum(axis=0)
        return self


def standardize(frames: np.ndarray, moments: Moments) -> np.ndarray:
    """Subtract the mean and divide by the standard deviation: (T, D) float32."""
    if len(frames) == 0:
        return frames
    mean = moments.total / moments.count
    variance = moments.squares / moments.count - mean**2
    std = np.sqrt(np.maximum(variance, STD_FLOOR**2))
    standardized: np.ndarray = ((frames - mean) / std).astype(np.float32)
    return standardized
