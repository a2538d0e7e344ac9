"""What each member is trained with: its own weights of the terms and learning rates."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from wav2vec_u.config import GanConfig


class Choice(NamedTuple):
    """The settings of one member; see `GanConfig` for their meaning."""

    gradient_penalty: float
    smoothness: float
    diversity: float
    skipgrams: float
    positions: float
    auxiliary: float
    generator_lr: float
    discriminator_lr: float


class Weights(NamedTuple):
    """The settings of all members, (E,) each."""

    gradient_penalty: Tensor
    smoothness: Tensor
    diversity: Tensor
    skipgrams: Tensor
    positions: Tensor
    auxiliary: Tensor
    generator_lr: Tensor
    discriminator_lr: Tensor


def choose(config: GanConfig, number: int) -> Choice:
    """Return the settings of a member: all combinations are taken in turn.

    >>> config = GanConfig(
    ...     diversity=(2.0, 4.0), smoothness=(0.5, 0.75), skipgrams=0, positions=0
    ... )
    >>> [(c.smoothness, c.diversity) for c in (choose(config, number) for number in range(5))]
    [(0.5, 2.0), (0.5, 4.0), (0.75, 2.0), (0.75, 4.0), (0.5, 2.0)]
    """
    combinations = list(product(*(getattr(config, name) for name in Choice._fields)))
    return Choice(*combinations[number % len(combinations)])


def stack(choices: list[Choice], device: torch.device) -> Weights:
    """Put the settings of several members side by side."""
    columns = zip(*choices, strict=True)
    return Weights(*(torch.tensor(column, device=device) for column in columns))
