"""The discriminator: how much does a sequence of phone distributions look like generated speech?

`critics.Critics` computes the same for many members at once.

The architecture is that of the reference: causal convolutions V → D, D → D (with a GELU behind)
and D → 1, the mean over time as the score. Nothing stands between the first two, so that they are
one convolution with a kernel of 2k - 1, which costs V (2k - 1) multiplications a frame and channel
instead of (V + D) k: a fifth for V = 45, D = 384, k = 6. Parameters stay those of the two layers;
only the computation is fused.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FusedLayer(NamedTuple):
    """The first two convolutions as one.

    Attributes
    ----------
    weight : Tensor
        (E, V * (2k - 1)).
    bias : Tensor
        (k, E): at step t, row ``min(t, k - 1)``. The second layer's zero padding hides the first
        layer's bias from the first k - 1 steps.
    """

    weight: Tensor
    bias: Tensor


class Discriminator(nn.Module):
    """Causal convolutional classifier of sequences.

    Parameters
    ----------
    n_symbols : int
        V, size of the distributions.
    dim : int
        D, channels of the hidden layers.
    depth : int
        Hidden convolutions.
    kernel : int
        k, in steps.
    """

    def __init__(self, n_symbols: int, dim: int = 384, depth: int = 2, kernel: int = 6) -> None:
        super().__init__()
        self.kernel = kernel
        sizes = [n_symbols, *[dim] * depth, 1]
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, kernel) for before, after in pairwise(sizes)
        )

    def fuse(self) -> FusedLayer:
        """Combine the first two layers; one call serves all batches until the next update."""
        first, second = self._conv(0), self._conv(1)
        k, (channels, symbols, _) = self.kernel, first.weight.shape
        out = second.weight.shape[0]
        # Every tap of the second layer after every tap of the first: (k, E, V, k).
        taps = second.weight.permute(2, 0, 1).reshape(k * out, channels) @ first.weight.reshape(
            channels, symbols * k
        )
        taps = taps.view(k, out, symbols, k)
        # Taps i and j together reach back i + j steps.
        weight = sum(F.pad(taps[j], (j, k - 1 - j)) for j in range(k))
        assert isinstance(weight, Tensor)
        seen = torch.einsum("edj,d->je", second.weight, _bias(first)).flip(0).cumsum(0)  # (k, E)
        return FusedLayer(weight.reshape(out, -1), seen + _bias(second))

    def forward(self, x: Tensor, mask: Tensor | None, fused: FusedLayer | None = None) -> Tensor:
        """Score sequences; larger means generated (fake = 1, real = 0 as in the reference).

        Parameters
        ----------
        x : Tensor
            (B, T, V) distributions over symbols.
        mask : Tensor or None
            (B, T) bool, True before the padding; None counts all T steps.
        fused : FusedLayer or None
            What `fuse` returned, to share it between calls.

        Returns
        -------
        Tensor
            (B,): mean logit over the valid steps; 0 for a sequence without any.
        """
        fused = self.fuse() if fused is None else fused
        reach, steps = 2 * self.kernel - 1, x.shape[1]
        windows = F.pad(x, (0, 0, reach - 1, 0)).unfold(1, reach, 1)  # (B, T, V, 2k - 1)
        at = torch.arange(steps, device=x.device).clamp(max=self.kernel - 1)
        h = windows.flatten(2) @ fused.weight.t() + fused.bias[at]  # (B, T, E)
        for layer in range(2, len(self.layers) - 1):
            padded = F.pad(F.gelu(h).transpose(1, 2), (self.kernel - 1, 0))
            h = self._conv(layer)(padded).transpose(1, 2)
        scores = (self._last(F.gelu(h)) if len(self.layers) > 2 else h).squeeze(-1)  # (B, T)
        if mask is None:
            return scores.mean(1)
        return scores.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)

    def convolutions(self) -> list[nn.Conv1d]:
        """Return all layers, the first one first."""
        return [self._conv(index) for index in range(len(self.layers))]

    def _last(self, h: Tensor) -> Tensor:
        """Convolve (B, T, E) to (B, T, 1): one product for all taps, then shifted sums."""
        conv = self._conv(len(self.layers) - 1)
        taps = F.pad(h @ conv.weight[0], (0, 0, self.kernel - 1, 0))  # (B, k - 1 + T, k)
        steps = h.shape[1]
        shifted = [taps[:, j : j + steps, j] for j in range(self.kernel)]
        return (torch.stack(shifted).sum(0) + _bias(conv)).unsqueeze(-1)

    def _conv(self, index: int) -> nn.Conv1d:
        layer = self.layers[index]
        assert isinstance(layer, nn.Conv1d)
        return layer


def _bias(conv: nn.Conv1d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
