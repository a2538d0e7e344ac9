"""An encoder with a linear layer: probabilities of units, and of CTC's blank, over time."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from wav2vec_u.finetune.backbone import Backbone, Masks

# Phones of fast speech come at 15 to 20 a second, and equal neighbours need a blank between them:
# an encoder with fewer steps a second than this gives two outputs a step.
LOW_STEP_RATE_HZ = 40.0


class AcousticModel(nn.Module):
    """Waveforms to log-probabilities.

    Parameters
    ----------
    backbone : Backbone
    n_units : int
        V; the blank is output V.
    outputs_per_step : int or None
        Outputs, equally far apart, that the linear layer makes of every step. None: 2 for encoders
        of fewer than 40 steps a second, else 1.
    dropout : float
        Of the linear layer's input.

    Attributes
    ----------
    blank : int
    output_rate_hz : float
        Outputs a second.
    """

    def __init__(
        self,
        backbone: Backbone,
        n_units: int,
        *,
        outputs_per_step: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if outputs_per_step is None:
            outputs_per_step = 2 if backbone.step_rate_hz < LOW_STEP_RATE_HZ else 1
        self.backbone = backbone
        self.blank = n_units
        self.outputs_per_step = outputs_per_step
        self.output_rate_hz = backbone.step_rate_hz * outputs_per_step
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.dim, outputs_per_step * (n_units + 1))
        nn.init.xavier_uniform_(self.head.weight)  # as in the reference
        nn.init.zeros_(self.head.bias)

    def n_outputs(self, n_samples: int) -> int:
        """Count the outputs that so many samples give."""
        return self.backbone.n_steps(n_samples) * self.outputs_per_step

    def forward(
        self,
        waveforms: torch.Tensor,
        lengths: torch.Tensor,
        masks: Masks | None = None,
        *,
        freeze_backbone: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute log-probabilities.

        Parameters
        ----------
        waveforms : (B, samples) tensor
            Mono, 16 kHz, padded with zeros.
        lengths : (B,) int tensor
            Samples of each waveform; each must give at least one step.
        masks : Masks or None
            What is hidden, in training.
        freeze_backbone : bool
            Compute no gradients below the linear layer.

        Returns
        -------
        log_probs : (B, T, V + 1) float32 tensor
            Natural logarithms.
        counts : (B,) int64 tensor
            Outputs of each waveform; what lies beyond is padding.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not freeze_backbone):
            hidden = self.backbone(waveforms, lengths, masks)  # (B, T', D)
        logits = self.head(self.dropout(hidden))  # (B, T', outputs * (V + 1))
        logits = logits.reshape(len(logits), -1, self.blank + 1)  # (B, T, V + 1)
        counts = [self.n_outputs(int(length)) for length in lengths]
        return logits.float().log_softmax(dim=2), torch.tensor(counts, device=logits.device)


def outputs_needed(targets: tuple[int, ...]) -> int:
    """Count the outputs that CTC needs: one a target, and a blank between equal neighbours.

    >>> outputs_needed((3, 3, 5))
    4
    """
    return len(targets) + sum(left == right for left, right in pairwise(targets))


def greedy_ids(log_probs: torch.Tensor, blank: int) -> list[int]:
    """Return the unit ids of the best path: equal neighbours merged, then blanks dropped.

    >>> greedy_ids(torch.eye(3)[[2, 0, 0, 2, 0, 1]], blank=2)
    [0, 0, 1]
    """
    merged = torch.unique_consecutive(log_probs.argmax(dim=1))
    return [number for number in merged.tolist() if number != blank]
