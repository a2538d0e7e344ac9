"""Shortening utterances before the generator hears them, two ways of the reference.

The paper's own way, which joins what the generator says alike, is `layout.join`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Segmenter = Literal["none", "random", "uniform", "uniform_join", "join"]


def pre_segment(
    kind: Segmenter, vectors: Tensor, mask: Tensor, rate: float, rng: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Shorten the generator's input as `kind` asks; the identity for ``none`` and ``join``.

    Parameters
    ----------
    kind : str
        One of the five segmenters.
    vectors, mask : Tensor
        (B, S, P) and (B, S) bool, True before the padding.
    rate : float
        Share of the steps that is kept, for ``random``, ``uniform`` and ``uniform_join``.
    rng : torch.Generator or None
        Source of the draw of ``random``.
    """
    if kind == "random":
        return sample_steps(vectors, mask, rate, rng)
    if kind in ("uniform", "uniform_join"):
        return average_groups(vectors, mask, math.ceil(1 / rate))
    return vectors, mask


def sample_steps(
    vectors: Tensor, mask: Tensor, rate: float, rng: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Keep ``ceil(rate * length)`` random steps of every utterance, in order."""
    batch, steps = mask.shape
    wanted = (mask.sum(1) * rate).ceil().long()
    keys = torch.rand(batch, steps, generator=rng, device=mask.device).masked_fill(~mask, 2.0)
    rank = keys.argsort(1).argsort(1)
    position = torch.arange(steps, device=mask.device).expand(batch, steps)
    kept = torch.where(rank < wanted.unsqueeze(1), position, steps).sort(1).values
    kept = kept[:, : math.ceil(steps * rate)]
    new_mask = kept < steps
    index = kept.clamp(max=steps - 1).unsqueeze(-1).expand(-1, -1, vectors.shape[-1])
    return vectors.gather(1, index).masked_fill(~new_mask.unsqueeze(-1), 0.0), new_mask


def average_groups(vectors: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Average groups of `size` neighbouring steps; a last, smaller group counts what it has."""
    batch, steps, dim = vectors.shape
    groups = -(-steps // size)
    missing = groups * size - steps
    weight = torch.nn.functional.pad(mask, (0, missing)).view(batch, groups, size, 1)
    padded = torch.nn.functional.pad(vectors, (0, 0, 0, missing)).view(batch, groups, size, dim)
    count = weight.sum(2)  # (B, G, 1)
    return padded.masked_fill(~weight, 0.0).sum(2) / count.clamp(min=1), count.squeeze(-1) > 0
