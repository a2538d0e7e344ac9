"""Masking in fine-tuning: spans of time and of channels (wav2vec 2.0, section 4.3, appendix B)."""

from __future__ import annotations

import torch

from wav2vec_u.config import FinetuneConfig
from wav2vec_u.finetune.backbone import Backbone, Masks
from wav2vec_u.pretrain.masking import span_mask


def draw_masks(
    backbone: Backbone, lengths: torch.Tensor, config: FinetuneConfig, generator: torch.Generator
) -> Masks:
    """Draw what is hidden from the Transformer in one update.

    Parameters
    ----------
    backbone : Backbone
    lengths : (B,) int tensor
        Samples of each waveform.
    config : FinetuneConfig
    generator : torch.Generator
    """
    steps = torch.tensor([backbone.n_steps(int(length)) for length in lengths])
    valid = torch.arange(int(steps.max()))[None] < steps[:, None]  # (B, T)
    time_length = max(1, round(config.time_mask_seconds * backbone.step_rate_hz))
    channels = torch.ones(len(lengths), backbone.dim, dtype=torch.bool)  # (B, D)
    channel_length = max(1, round(config.channel_mask_width * backbone.dim))
    return Masks(
        time=_spans(valid, config.time_mask_share, time_length, generator).to(lengths.device),
        channels=_spans(channels, config.channel_mask_share, channel_length, generator).to(
            lengths.device
        ),
    )


def start_probability(share: float, length: int) -> float:
    """Return p such that spans that start with probability p hide a share of all places.

    A place is hidden unless none of `length` starts covers it: share = 1 - (1 - p)^length.

    >>> round(start_probability(0.4, 10), 3)  # the paper's 0.05 (960 h)
    0.05
    """
    return float(1.0 - (1.0 - share) ** (1.0 / length))


def _spans(
    valid: torch.Tensor, share: float, length: int, generator: torch.Generator
) -> torch.Tensor:
    # No span is forced: a short utterance must not lose all of its few steps every time.
    probability = start_probability(share, length)
    return span_mask(valid, probability, length, generator, min_spans=0)
