"""Mean and variance of frames, gathered piece by piece."""

from __future__ import annotations

import numpy as np

STD_FLOOR = 1e-5
# Frames that should be equal differ in their last bits where the processor's matrix product treats
# rows differently: that much of the mean is no change.
_ROUNDING = 4 * float(np.finfo(np.float32).eps)


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
    std = np.sqrt(np.maximum(variance, 0.0))
    changes = std > np.maximum(STD_FLOOR, _ROUNDING * np.abs(mean))
    # A coefficient that never changes becomes 0, and is not divided by zero.
    standardized: np.ndarray = np.where(changes, (frames - mean) / np.where(changes, std, 1.0), 0.0)
    return standardized.astype(np.float32)
