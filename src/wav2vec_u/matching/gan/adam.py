"""AdamW for members that are trained side by side, each with its own rate and age."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BETAS = (0.5, 0.98)  # reference: w2vu.yaml
EPS = 1e-6


class StackedAdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019) over stacked parameters.

    A member's update is that of `torch.optim.AdamW` on its own slice.

    Parameters
    ----------
    parameters : list of Tensor
        (E, ...) each; changed in place.
    weight_decay : float
    """

    def __init__(self, parameters: list[Tensor], weight_decay: float) -> None:
        self._parameters = parameters
        self._weight_decay = weight_decay
        self._mean = [torch.zeros_like(value) for value in parameters]
        self._square = [torch.zeros_like(value) for value in parameters]
        members = len(parameters[0])
        self._steps = torch.zeros(members, device=parameters[0].device)

    @torch.no_grad()
    def step(self, gradients: list[Tensor], rates: Tensor) -> None:
        """Do one update of all members, at rates (E,)."""
        self._steps += 1
        mean_bias = 1 - BETAS[0] ** self._steps
        square_bias = (1 - BETAS[1] ** self._steps).sqrt()
        states = zip(self._parameters, gradients, self._mean, self._square, strict=True)
        for value, gradient, mean, square in states:
            shape = (-1, *[1] * (value.dim() - 1))
            value.mul_(1 - self._weight_decay * rates.view(shape))
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            size = square.sqrt().div_(square_bias.view(shape)).add_(EPS)
            value.sub_((rates / mean_bias).view(shape) * mean / size)

    def reset(self, member: int) -> None:
        """Forget what is known of a member."""
        self._steps[member] = 0
        for state in (*self._mean, *self._square):
            state[member] = 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold."""
        return {"steps": self._steps, "mean": self._mean, "square": self._square}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self._steps.copy_(state["steps"])
        for mine, saved in ((self._mean, state["mean"]), (self._square, state["square"])):
            for value, given in zip(mine, saved, strict=True):
                value.copy_(given)


@torch.no_grad()
def clip(gradients: list[Tensor], limit: float) -> tuple[list[Tensor], Tensor]:
    """Shorten every member's gradients to a norm of `limit`; also return the norms before, (E,)."""
    squares = [value.flatten(1).square().sum(1) for value in gradients]
    norm = torch.stack(squares).sum(0).sqrt()
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    return [value * factor.view(-1, *[1] * (value.dim() - 1)) for value in gradients], norm
