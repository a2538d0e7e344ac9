"""Which steps reach the discriminator: shortening before, and joining after, the generator.

The five ways of the reference, without a loop over the batch and without a wait for the device.
``join`` is the paper's: neighbouring steps with the same best phone become one step.
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


def post_segment(
    kind: Segmenter,
    logits: Tensor,
    mask: Tensor,
    rng: torch.Generator | None,
    *,
    reference: bool = False,
) -> tuple[Tensor, Tensor]:
    """Join the generator's output for ``join`` and ``uniform_join``; else the identity.

    `rng` None means evaluation, where a joined step is the mean of its run.
    """
    if kind in ("join", "uniform_join"):
        return join(logits, mask, rng, reference=reference)
    return logits, mask


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


def join(
    logits: Tensor, mask: Tensor, rng: torch.Generator | None, *, reference: bool = False
) -> tuple[Tensor, Tensor]:
    """Merge runs of steps with the same best symbol.

    Parameters
    ----------
    logits, mask : Tensor
        (B, S, V) and (B, S) bool, True before the padding.
    rng : torch.Generator or None
        Training: one random step stands for its run (the authors found it better than the mean).
        None: evaluation, the mean of the run.
    reference : bool
        Give the result the padded length that the reference has, whose terms depend on it: the
        most runs of any utterance, where the padding counts as one run.

    Returns
    -------
    logits : Tensor
        (B, R, V), zero in the padding.
    mask : Tensor
        (B, R) bool. R is S on an accelerator, where asking for the longest would mean a wait for
        the device (unless `reference`), and the most runs of any utterance on the CPU.
    """
    batch, steps, symbols = logits.shape
    best = logits.argmax(-1)
    starts = mask.clone()
    starts[:, 1:] &= best[:, 1:] != best[:, :-1]
    dump = steps  # an extra column takes what belongs to no run
    run = torch.where(mask, starts.cumsum(1) - 1, dump)  # (B, S)
    runs = starts.sum(1)
    if reference:
        length = int((runs + (~mask).any(1)).max())
    elif logits.device.type == "cpu":
        length = max(1, int(runs.max()))
    else:
        length = steps
    new_mask = torch.arange(length, device=logits.device) < runs.unsqueeze(1)
    count = torch.zeros(batch, steps + 1, dtype=torch.long, device=logits.device)
    count.scatter_add_(1, run, torch.ones_like(run))
    count = count[:, :length].clamp(min=1)
    if rng is None:
        total = logits.new_zeros(batch, steps + 1, symbols)
        total = total.scatter_add(1, run.unsqueeze(-1).expand_as(logits), logits)
        joined = total[:, :length] / count.unsqueeze(-1)
    else:
        position = torch.arange(steps, device=logits.device).expand(batch, steps)
        first = torch.zeros(batch, steps + 1, dtype=torch.long, device=logits.device)
        first.scatter_(1, torch.where(starts, run, dump), position)
        draw = torch.rand(batch, length, generator=rng, device=logits.device)
        offset = torch.minimum((draw * count).long(), count - 1)
        chosen = (first[:, :length] + offset).unsqueeze(-1)
        joined = logits.gather(1, chosen.expand(-1, -1, symbols))
    return joined.masked_fill(~new_mask.unsqueeze(-1), 0.0), new_mask
