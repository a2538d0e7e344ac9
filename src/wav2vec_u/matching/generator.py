"""The generator: segment vectors in, one phone distribution a step out.

Baevski et al. (2021), section 4: a single convolution over time without a bias. Wav2vec-U 2.0
puts a batch normalisation and a residual linear layer before it; both are options here. Weak
features such as MFCC are not linearly separable into phones and need a hidden layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError

GENERATOR_NAME = "generator.safetensors"


class Generator(nn.Module):
    """Convolution from segments to phone logits.

    Parameters
    ----------
    in_dim : int
        P, size of a segment vector.
    n_phones : int
        V, size of the output.
    kernel, stride : int
        Of the convolution, in segments.
    dropout : float
        On the input, in training.
    batch_norm : float
        Initial weight of a batch normalisation of the input (wav2vec-U 2.0: 30); 0 leaves it out.
    residual : bool
        Add a linear layer's output to the input (wav2vec-U 2.0).
    hidden : int
        Channels between the convolution over time and the output; 0 leaves the hidden layer out.
    reference_padding : bool
        Pad by ``kernel // 2`` on both sides as the reference does: an even kernel then gives
        S + 1 outputs. Otherwise there are exactly ``ceil(S / stride)``.
    """

    def __init__(
        self,
        in_dim: int,
        n_phones: int,
        kernel: int = 4,
        stride: int = 1,
        dropout: float = 0.1,
        *,
        batch_norm: float = 0.0,
        residual: bool = False,
        hidden: int = 0,
        reference_padding: bool = False,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "in_dim": in_dim,
            "n_phones": n_phones,
            "kernel": kernel,
            "stride": stride,
            "dropout": dropout,
            "batch_norm": batch_norm,
            "residual": residual,
            "hidden": hidden,
            "reference_padding": reference_padding,
        }
        self.kernel = kernel
        self.stride = stride
        self.dropout = dropout
        self.reference_padding = reference_padding
        self.norm = MaskedBatchNorm(in_dim, batch_norm) if batch_norm > 0 else None
        self.residual = nn.Linear(in_dim, in_dim) if residual else None
        width = hidden or n_phones
        self.conv = nn.Conv1d(in_dim, width, kernel, stride=stride, bias=False)
        self.output = nn.Linear(hidden, n_phones) if hidden else None

    def forward(
        self, segments: Tensor, mask: Tensor, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map segments to logits.

        Parameters
        ----------
        segments : Tensor
            (B, S, P); what stands in the padding is ignored.
        mask : Tensor
            (B, S) bool, True for segments and False for the padding behind them.
        rng : torch.Generator or None
            Source of the dropout in training; None takes torch's global one.

        Returns
        -------
        logits : Tensor
            (B, S', V).
        mask : Tensor
            (B, S') bool.
        """
        x, _ = self.enter(segments, mask, rng)
        return self.leave(x, mask, rng)

    def enter(
        self, segments: Tensor, mask: Tensor, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Do what comes before the convolution; see `forward` for the arguments.

        Returns
        -------
        x : Tensor
            (B, S, P), zero in the padding.
        residual : Tensor or None
            (B, S, P): the residual layer's output, if there is one.
        """
        padding = ~mask.unsqueeze(-1)
        x = segments.masked_fill(padding, 0.0)
        if self.norm is not None:
            x = self.norm(x, mask)
        if self.residual is None:
            return x, None
        residual = self.residual(self._drop(x, rng))
        # The linear layer has a bias.
        return (x + residual).masked_fill(padding, 0.0), residual

    def leave(
        self, x: Tensor, mask: Tensor, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Turn what `enter` returned into logits (B, S', V) and their mask (B, S')."""
        x = self._drop(x, rng)
        length = x.shape[1]
        left = self.kernel // 2
        if self.reference_padding:
            right, out_length = left, (length + 2 * left - self.kernel) // self.stride + 1
        else:
            out_length = -(-length // self.stride)
            right = max(0, (out_length - 1) * self.stride + self.kernel - left - length)
        x = F.pad(x.transpose(1, 2), (left, right))  # (B, P, left + S + right)
        logits = self.conv(x)[..., :out_length].transpose(1, 2)  # (B, S', V or hidden)
        if self.output is not None:
            logits = self.output(self._drop(F.gelu(logits), rng))  # (B, S', V)
        mask = mask[:, :: self.stride]
        # The reference counts what the symmetric padding adds as valid, in front.
        mask = F.pad(mask, (out_length - mask.shape[1], 0), value=True)
        return logits, mask

    def only(self, n_phones: int) -> Generator:
        """Return a copy that keeps the first `n_phones` outputs."""
        copy = Generator(**{**self.settings, "n_phones": n_phones})
        state = {key: value.detach().cpu().clone() for key, value in self.state_dict().items()}
        for name in self.output_names:
            state[name] = state[name][:n_phones].clone()
        copy.load_state_dict(state)
        return copy.eval()

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of the weights that have a row for every output."""
        return ("conv.weight",) if self.output is None else ("output.weight", "output.bias")

    def _drop(self, x: Tensor, rng: torch.Generator | None) -> Tensor:
        if not self.training or self.dropout == 0:
            return x
        # Not nn.Dropout: that draws from the global generator, and no two runs would be alike.
        # Nor bernoulli_, which takes three times as long on a CPU.
        kept = torch.rand(x.shape, generator=rng, device=x.device) >= self.dropout
        return x * kept / (1 - self.dropout)


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over the valid segments of a padded batch."""

    mean: Tensor
    variance: Tensor

    def __init__(self, dim: int, weight: float, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), weight))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.momentum = momentum
        self.eps = eps
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise (B, S, P) under a (B, S) mask; the padding of the result is zero."""
        valid = mask.unsqueeze(-1)
        mean, variance = self.mean, self.variance
        if self.training:
            count = mask.sum()
            mean = x.masked_fill(~valid, 0.0).sum((0, 1)) / count
            squares = (x - mean).square().masked_fill(~valid, 0.0).sum((0, 1))
            variance = squares / count
            with torch.no_grad():
                # Not lerp_, which torch.func cannot do for several members at once.
                self.mean.add_(mean - self.mean, alpha=self.momentum)
                unbiased = squares / (count - 1).clamp(min=1)
                self.variance.add_(unbiased - self.variance, alpha=self.momentum)
        x = (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return x.masked_fill(~valid, 0.0)


def log_probs(generator: Generator, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the natural logarithms of what a generator says of one utterance.

    Parameters
    ----------
    generator : Generator
        In evaluation mode.
    vectors : (S, P) float32

    Returns
    -------
    (S', V) float32
    """
    batch = torch.from_numpy(np.array(vectors, dtype=np.float32))[None]  # (1, S, P)
    mask = torch.ones(batch.shape[:2], dtype=torch.bool)
    with torch.inference_mode():
        logits, _ = generator(batch, mask)  # (1, S', V)
        scores: NDArray[np.float32] = F.log_softmax(logits[0], -1).numpy()
    return scores


def save_generator(path: Path, generator: Generator) -> None:
    """Write a generator with the settings that rebuild it."""
    save_checkpoint(path, {"settings": generator.settings, "weights": generator.state_dict()})


def load_generator(path: Path) -> Generator:
    """Read a generator, in evaluation mode.

    Raises
    ------
    UserError
        If the file is missing, damaged, or holds no generator.
    """
    state = load_checkpoint(path)
    try:
        generator = Generator(**state["settings"])
        generator.load_state_dict(state["weights"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{path}: holds no generator of this version; run the matching again"
        ) from error
    return generator.eval()
