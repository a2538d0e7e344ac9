r"""A GELU whose gradient is cheap to differentiate once more, as the gradient penalty asks.

With φ and Φ the density and distribution of the standard normal (Hendrycks and Gimpel, 2016):

.. math:: g(x) = x Φ(x), \quad g'(x) = Φ(x) + x φ(x), \quad g''(x) = (2 - x^2) φ(x)

torch differentiates its own backward step by step, over a dozen arrays as large as the input.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def gelu(x: Tensor) -> Tensor:
    """Return ``x Φ(x)``."""
    found: Tensor = _Gelu.apply(x)  # type: ignore[no-untyped-call]
    return found


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        found: Tensor = _GeluSlope.apply(gradients[0], x)  # type: ignore[no-untyped-call]
        return found


class _GeluSlope(torch.autograd.Function):
    """``weight · g'(x)``."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(weight, x)
        found: Tensor = torch.ops.aten.gelu_backward(weight, x)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        weight, x = ctx.saved_tensors
        square = x * x
        curve = torch.exp(square * -0.5).mul_(1 / math.sqrt(2 * math.pi))
        curve.mul_(square.neg_().add_(2))
        curve.mul_(weight).mul_(gradient)
        by_weight: Tensor = torch.ops.aten.gelu_backward(gradient, x)
        return by_weight, curve
