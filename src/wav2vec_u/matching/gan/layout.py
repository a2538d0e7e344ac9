"""Sequences of different lengths one after the other in one row, so that padding costs nothing.

Shapes: E members, B utterances of a batch, N steps of all of them together, V symbols. All members
hear the same utterances, but a member's generator decides how many steps are left of each
(`join`), so that every member has a layout of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """Where the utterances stand in the rows.

    Attributes
    ----------
    utterance : Tensor
        (E, N) int64: the utterance of every step.
    position : Tensor
        (E, N) int64: how many steps of the utterance stand before it.
    valid : Tensor
        (E, N) bool: False for what is left of the row behind a member's last step.
    lengths : Tensor
        (E, B) int64: steps of every utterance.
    """

    utterance: Tensor
    position: Tensor
    valid: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, lengths: Tensor, members: int = 1) -> Layout:
        """Lay out utterances of (B,) steps, for all members alike.

        >>> Layout.of(torch.tensor([2, 3])).position.tolist()
        [[0, 1, 0, 1, 2]]
        """
        utterance = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
        first = lengths.cumsum(0) - lengths
        position = torch.arange(len(utterance), device=lengths.device) - first[utterance]
        rows = (utterance, position, torch.ones_like(utterance, dtype=torch.bool), lengths)
        return cls(*(row.expand(members, -1) for row in rows))

    def sums(self, steps: Tensor) -> Tensor:
        """Add up (E, N) values of the valid steps of every utterance: (E, B)."""
        total = steps.new_zeros(self.lengths.shape)
        return total.scatter_add(1, self.utterance, steps.masked_fill(~self.valid, 0.0))


def join(logits: Tensor, layout: Layout, draw: Tensor | None) -> tuple[Tensor, Layout]:
    """Merge runs of steps with the same best symbol (section 4.2 of the paper).

    Parameters
    ----------
    logits : Tensor
        (E, N, V).
    layout : Layout
        Without a step that is not valid.
    draw : Tensor or None
        (N,) in [0, 1), the same for all members. Training: the random step that stands for a run
        (the authors found it better than the mean). None: evaluation, the mean of the run.

    Returns
    -------
    logits : Tensor
        (E, R, V), zero where not valid. R is N on an accelerator, where asking for the longest row
        would mean a wait for the device.
    layout : Layout
        Of the runs.
    """
    members, steps, symbols = logits.shape
    device = logits.device
    best = logits.detach().argmax(-1)  # (E, N)
    starts = layout.position == 0
    starts[:, 1:] |= best[:, 1:] != best[:, :-1]
    run = starts.cumsum(1) - 1  # (E, N)
    runs = run[:, -1] + 1  # (E,)
    width = int(runs.max()) if device.type == "cpu" else steps
    valid = torch.arange(width, device=device) < runs.unsqueeze(1)  # (E, R)

    at = torch.arange(steps, device=device).expand(members, steps)
    spare = width  # one more column takes what starts no run
    first = torch.zeros(members, width + 1, dtype=torch.long, device=device)
    first = first.scatter(1, torch.where(starts, run, spare), at)[:, :width]
    count = torch.zeros(members, width, dtype=torch.long, device=device)
    count = count.scatter_add(1, run, torch.ones_like(run)).clamp(min=1)
    if draw is None:
        joined = logits.new_zeros(members, width, symbols)
        joined = joined.scatter_add(1, run.unsqueeze(-1).expand_as(logits), logits)
        joined = joined / count.unsqueeze(-1)
    else:
        # Drawn by where the run begins, so that a draw does not depend on the runs before it.
        offset = torch.minimum((draw[first] * count).long(), count - 1)
        chosen = (first + offset).unsqueeze(-1)
        joined = logits.gather(1, chosen.expand(-1, -1, symbols))
    utterance = layout.utterance.gather(1, first)
    # Run that each utterance begins with, and the one behind the last.
    opening = torch.where(layout.position == 0, layout.utterance, layout.lengths.shape[1])
    begins = torch.zeros(members, layout.lengths.shape[1] + 1, dtype=torch.long, device=device)
    begins = begins.scatter(1, opening, run)
    begins[:, -1] = runs
    position = torch.arange(width, device=device) - begins.gather(1, utterance)
    merged = Layout(utterance, position, valid, begins.diff(dim=1))
    return joined.masked_fill(~valid.unsqueeze(-1), 0.0), merged


def windows(values: Tensor, position: Tensor, reach: int, edges: int = 0) -> Tensor:
    """Put every step beside the ones before it in its utterance.

    Parameters
    ----------
    values : Tensor
        (E, N, C).
    position : Tensor
        (E, N), see `Layout`.
    reach : int
        Steps that are seen, the step itself among them.
    edges : int
        More columns, of which number ``min(position, edges - 1)`` is one and the others zero: how
        near the beginning is.

    Returns
    -------
    Tensor
        (E, N, reach * C + edges): the step itself, the one before it, and so on; zero before the
        utterance begins.
    """
    found: Tensor = _Windows.apply(values, position, reach, edges)  # type: ignore[no-untyped-call]
    return found


def add_windows(seen: Tensor, position: Tensor, reach: int, edges: int = 0) -> Tensor:
    """Add up what windows say of each step: the transpose of `windows`, (E, N, C)."""
    found: Tensor = _AddWindows.apply(seen, position, reach, edges)  # type: ignore[no-untyped-call]
    return found


class _Windows(torch.autograd.Function):
    """Autograd would keep a mask and a copy for every step that is seen."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, position: Tensor, reach: int, edges: int) -> Tensor:
        ctx.save_for_backward(position)
        ctx.sizes = (reach, edges)
        members, steps, channels = values.shape
        seen = values.new_zeros(members, steps, reach * channels + edges)
        taps = seen[..., : reach * channels].view(members, steps, reach, channels)
        for back in range(min(reach, steps)):
            inside = (position[:, back:] >= back).unsqueeze(-1)
            torch.mul(values[:, : steps - back], inside, out=taps[:, back:, back])
        if edges:
            nearest = position.clamp(max=edges - 1).unsqueeze(-1)
            seen[..., reach * channels :].scatter_(-1, nearest, 1.0)
        return seen

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (position,) = ctx.saved_tensors
        return add_windows(gradients[0], position, *ctx.sizes), None, None, None


class _AddWindows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, seen: Tensor, position: Tensor, reach: int, edges: int) -> Tensor:
        ctx.save_for_backward(position)
        ctx.sizes = (reach, edges)
        members, steps, width = seen.shape
        taps = seen[..., : width - edges].reshape(members, steps, reach, -1)
        values = torch.zeros_like(taps[:, :, 0])
        for back in range(min(reach, steps)):
            inside = (position[:, back:] >= back).unsqueeze(-1)
            values[:, : steps - back].addcmul_(taps[:, back:, back], inside.to(seen.dtype))
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (position,) = ctx.saved_tensors
        reach, edges = ctx.sizes
        seen = windows(gradients[0], position, reach)
        if edges:  # nothing came from there
            seen = torch.nn.functional.pad(seen, (0, edges))
        return seen, None, None, None
