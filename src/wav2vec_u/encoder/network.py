"""The network of wav2vec 2.0: front end, projection, mask vector, context network.

Baevski et al. (2020), *wav2vec 2.0*, section 2. The Transformer is the one of transformers (its
variant with LayerNorm before each sub-layer, as in LARGE and XLSR); small budgets do better with a
Conformer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wav2vec_u.config import SAMPLE_RATE, NetworkConfig
from wav2vec_u.encoder.conformer import ConformerContext
from wav2vec_u.encoder.front_end import build_front_end, count_steps
from wav2vec_u.runtime.errors import UserError


@dataclass(frozen=True)
class NetworkOutput:
    """What the network makes of a batch.

    Attributes
    ----------
    front : (B, T, C) tensor or None
        Output of a front end that learns, before its normalisation.
    features : (B, T, C) tensor
        Steps of the front end, normalised and never masked: z in the paper.
    context : (B, T, D) tensor
        Output of the context network after its last LayerNorm: c in the paper.
    valid : (B, T) bool tensor
        Steps that lie inside their utterance.
    blocks : list of (B, T, D) tensors
        Raw output of every block of the context network; empty unless asked for.
    """

    front: torch.Tensor | None
    features: torch.Tensor
    context: torch.Tensor
    valid: torch.Tensor
    blocks: list[torch.Tensor]


class SpeechNetwork(nn.Module):
    """Waveforms to context vectors.

    Parameters
    ----------
    config : NetworkConfig

    Attributes
    ----------
    step_rate_hz : float
        Steps a second.
    dim : int
        D, width of the context network.

    Raises
    ------
    UserError
        If no network can have this shape.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        _check_shape(config)
        self.config = config
        self.dim = config.dim
        self.front_end = build_front_end(config)
        self.step_rate_hz = SAMPLE_RATE / math.prod(self.front_end.strides)
        self.feature_norm = nn.LayerNorm(self.front_end.dim)
        self.projection = nn.Linear(self.front_end.dim, config.dim)
        self.projection_dropout = nn.Dropout(config.dropout)
        self.mask_vector = nn.Parameter(torch.empty(config.dim).uniform_())
        self.context: ConformerContext | TransformerContext = (
            ConformerContext(config)
            if config.context == "conformer"
            else TransformerContext(config)
        )
        self.context.apply(_initialise)

    def set_layer_drop(self, probability: float) -> None:
        """Set the probability that a block is passed over in training."""
        self.context.layer_drop = probability

    def keep_blocks(self, count: int) -> None:
        """Cut away all blocks above the first `count`, for those who do not need their output."""
        del self.context.layers[count:]

    def n_steps(self, n_samples: int) -> int:
        """Count the steps that so many samples give: whole receptive fields only."""
        return count_steps(n_samples, self.front_end.kernels, self.front_end.strides)

    def valid_steps(self, lengths: torch.Tensor) -> torch.Tensor:
        """Mark the steps inside each utterance.

        Parameters
        ----------
        lengths : (B,) int tensor
            Samples of each waveform.

        Returns
        -------
        (B, T) bool tensor
        """
        steps = [self.n_steps(int(length)) for length in lengths]
        counts = torch.tensor(steps, device=lengths.device)
        return torch.arange(max(steps), device=lengths.device)[None] < counts[:, None]

    def forward(
        self,
        waveforms: torch.Tensor,
        lengths: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        keep_blocks: bool = False,
    ) -> NetworkOutput:
        """Run the network.

        Parameters
        ----------
        waveforms : (B, samples) tensor
            Mono, 16 kHz, padded with zeros.
        lengths : (B,) int tensor
            Samples of each waveform; each must give at least one step.
        mask : (B, T) bool tensor or None
            Steps that are replaced by the mask vector.
        keep_blocks : bool
            Also return the raw output of every block.
        """
        valid = self.valid_steps(lengths)  # (B, T)
        front = self.front_end(waveforms, lengths, valid)  # (B, T, C)
        features = self.feature_norm(front)
        hidden = self.projection_dropout(self.projection(features))  # (B, T, D)
        if mask is not None:
            hidden = torch.where(mask[:, :, None], self.mask_vector.to(hidden.dtype), hidden)
        blocks: list[torch.Tensor] = []
        handles = (
            [layer.register_forward_hook(_collector(blocks)) for layer in self.context.layers]
            if keep_blocks
            else []
        )
        try:
            # Without padding there is nothing to mask, and attention takes its fast path.
            context = self.context(hidden, None if bool(valid.all()) else valid)
        finally:
            for handle in handles:
                handle.remove()
        return NetworkOutput(
            front if self.front_end.learns else None, features, context, valid, blocks
        )


def _check_shape(config: NetworkConfig) -> None:
    # Each of these would otherwise fail deep inside a layer, or, as an odd stack, not at all.
    conformer = config.context == "conformer"
    parts = 2 * config.heads if conformer else config.heads  # rotary positions turn pairs
    if config.dim % parts:
        problem = f"heads: {config.heads} does not fit dim {config.dim}; set a divisor of it"
        if conformer:
            problem += " that leaves each head an even width"
    elif conformer and config.convolution_kernel % 2 == 0:
        problem = f"convolution_kernel: {config.convolution_kernel} is even; set an odd number"
    elif not conformer and config.dim % config.position_groups:
        problem = f"position_groups: {config.position_groups} does not divide dim {config.dim}"
    elif config.front_end == "log_mel" and config.stack % 2:
        problem = f"stack: {config.stack} is odd; set an even number, as frames are 20 ms apart"
    else:
        return
    raise UserError(f"pretrain.network.{problem}")


def _collector(blocks: list[torch.Tensor]) -> Any:
    def collect(layer: nn.Module, inputs: Any, output: Any) -> None:
        blocks.append(output[0] if isinstance(output, tuple) else output)

    return collect


class TransformerContext(nn.Module):
    """The Transformer of wav2vec 2.0, from transformers.

    Parameters
    ----------
    config : NetworkConfig
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        from transformers import Wav2Vec2Config
        from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2EncoderStableLayerNorm

        self.transformer = Wav2Vec2EncoderStableLayerNorm(
            Wav2Vec2Config(
                hidden_size=config.dim,
                num_hidden_layers=config.blocks,
                num_attention_heads=config.heads,
                intermediate_size=config.feed_forward_dim,
                hidden_dropout=config.dropout,
                activation_dropout=config.dropout,
                attention_dropout=config.dropout,
                layerdrop=config.layer_drop,
                num_conv_pos_embeddings=config.position_kernel,
                num_conv_pos_embedding_groups=config.position_groups,
                attn_implementation="sdpa",
            )
        )

    @property
    def layers(self) -> nn.ModuleList:
        """The blocks."""
        layers: nn.ModuleList = self.transformer.layers
        return layers

    @property
    def layer_drop(self) -> float:
        """Probability that a block is passed over in training."""
        return float(self.transformer.config.layerdrop)

    @layer_drop.setter
    def layer_drop(self, probability: float) -> None:
        self.transformer.config.layerdrop = probability

    def forward(self, hidden: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """Run the blocks, (B, T, D) to (B, T, D); see `ConformerContext.forward`."""
        output: torch.Tensor = self.transformer(hidden, attention_mask=valid).last_hidden_state
        return output


def _initialise(module: nn.Module) -> None:
    # As wav2vec 2.0 and BERT: normal of standard deviation 0.02; the rest keeps torch's defaults.
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
