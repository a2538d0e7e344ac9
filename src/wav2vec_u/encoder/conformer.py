"""A context network of convolution, attention and feed-forward layers in turn.

After the Conformer (Gulati et al., 2020), which learns from little where a plain Transformer must
first find out that neighbours matter. Other than the Conformer of transformers, a step here never
depends on padding or on the rest of the batch: the convolution sees zeros beyond the end of an
utterance, and LayerNorm takes the place of batch norm. One feed-forward layer a block, not two
halves (as in the Squeezeformer, Kim et al., 2022); positions are rotary (Su et al., 2021).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from wav2vec_u.config import NetworkConfig

ROTARY_BASE = 10_000.0


class ConformerContext(nn.Module):
    """Blocks, and a LayerNorm after the last.

    Parameters
    ----------
    config : NetworkConfig

    Attributes
    ----------
    layer_drop : float
        Probability that a block is passed over in training.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.layer_drop = config.layer_drop
        self.head_dim = config.dim // config.heads
        self.layers = nn.ModuleList(ConformerBlock(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, hidden: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """Run the blocks, (B, T, D) to (B, T, D).

        Parameters
        ----------
        hidden : (B, T, D) tensor
        valid : (B, T) bool tensor or None
            Steps inside their utterance; None if all are.
        """
        rotation = _rotation(hidden.shape[1], self.head_dim, hidden.device)
        for layer in self.layers:
            if self.training and self.layer_drop > 0 and float(torch.rand(())) < self.layer_drop:
                continue
            hidden = layer(hidden, rotation, valid)
        normed: torch.Tensor = self.norm(hidden)
        return normed


class ConformerBlock(nn.Module):
    """Convolution, attention, feed-forward; each with LayerNorm before and a residual around."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.convolution = ConvolutionModule(config.dim, config.convolution_kernel, config.dropout)
        self.attention = RotaryAttention(config.dim, config.heads, config.dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(config.dim),
            nn.Linear(config.dim, config.feed_forward_dim),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feed_forward_dim, config.dim),
            nn.Dropout(config.dropout),
        )

    def forward(
        self,
        hidden: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        valid: torch.Tensor | None,
    ) -> torch.Tensor:
        """Run one block, (B, T, D) to (B, T, D)."""
        hidden = hidden + self.convolution(hidden, valid)
        hidden = hidden + self.attention(hidden, rotation, valid)
        result: torch.Tensor = hidden + self.feed_forward(hidden)
        return result


class ConvolutionModule(nn.Module):
    """Gate, depthwise convolution over steps, projection (Gulati et al., section 2.2)."""

    def __init__(self, dim: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.inner_norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """Convolve, (B, T, D) to (B, T, D)."""
        gated = F.glu(self.gate(self.norm(hidden)), dim=2)  # (B, T, D)
        if valid is not None:
            gated = gated * valid[:, :, None]
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)  # (B, T, D)
        result: torch.Tensor = self.dropout(self.output(F.silu(self.inner_norm(mixed))))
        return result


class RotaryAttention(nn.Module):
    """Self-attention whose queries and keys are turned by an angle that grows with the step."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        valid: torch.Tensor | None,
    ) -> torch.Tensor:
        """Attend, (B, T, D) to (B, T, D)."""
        projected = self.queries_keys_values(self.norm(hidden))  # (B, T, 3 D)
        projected = projected.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = projected  # each (B, H, T, D / H)
        attended = F.scaled_dot_product_attention(
            _rotate(queries, rotation),
            _rotate(keys, rotation),
            values,
            attn_mask=None if valid is None else valid[:, None, None, :],
        )
        joined = attended.transpose(1, 2).flatten(2)  # (B, T, D)
        result: torch.Tensor = self.dropout(self.output(joined))
        return result


def _rotation(steps: int, head_dim: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    half = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    angles = torch.arange(steps, device=device)[:, None] * ROTARY_BASE**-half  # (T, D / 2 H)
    angles = torch.cat([angles, angles], dim=1)  # (T, D / H)
    return angles.cos(), angles.sin()


def _rotate(vectors: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cosine, sine = (part.to(vectors.dtype) for part in rotation)
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cosine + torch.cat([-second, first], dim=-1) * sine
