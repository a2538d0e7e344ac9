"""How weights move: the numbers of Adam, what decays, and the learning rate over the updates."""

from __future__ import annotations

from typing import Any

from torch import nn

ADAM_BETAS = (0.9, 0.98)  # paper's code
ADAM_EPS = 1e-6


def learning_rate_scale(update: int, updates: int, warmup: float, decay: float) -> float:
    """Return the factor on the learning rate: a linear rise, a plateau, a linear fall.

    >>> [round(learning_rate_scale(u, 10, 0.2, 0.5), 2) for u in (0, 1, 2, 5, 9)]
    [0.5, 1.0, 1.0, 1.0, 0.2]
    """
    rise = (update + 1) / max(warmup * updates, 1.0)
    fall = (updates - update) / max(decay * updates, 1.0)
    return min(1.0, rise, fall)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return what `torch.optim.AdamW` takes: matrices with a weight decay, vectors without.

    Biases, gains of norms and the mask vector are not pulled towards 0.
    """
    matrices = [value for value in model.parameters() if value.ndim >= 2]
    vectors = [value for value in model.parameters() if value.ndim < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
