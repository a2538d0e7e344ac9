"""Random numbers that depend on a seed and a purpose, and on nothing else."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a NumPy generator for one purpose, independent of every other purpose.

    >>> float(numpy_generator(0, "silence", 3).random()) == float(
    ...     numpy_generator(0, "silence", 3).random())
    True
    """
    return np.random.default_rng([seed, *_as_ints(purpose)])


def torch_generator(seed: int, *purpose: str | int, device: str = "cpu") -> torch.Generator:
    """Return a torch generator for one purpose."""
    state = np.random.SeedSequence([seed, *_as_ints(purpose)]).generate_state(1, np.uint64)
    generator = torch.Generator(device=device)
    generator.manual_seed(int(state[0] >> np.uint64(1)))  # torch wants a signed 64-bit seed
    return generator


def _as_ints(purpose: tuple[str | int, ...]) -> list[int]:
    return [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in purpose]
