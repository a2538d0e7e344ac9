"""Network and objectives as one module, so that one call runs all of a round."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from wav2vec_u.config import PretrainConfig
from wav2vec_u.encoder.encode import phases_of
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.pretrain.objectives import (
    ContrastiveObjective,
    MaskedPredictionObjective,
    Objective,
    ObjectiveResult,
    PhoneObjective,
)


@dataclass(frozen=True)
class PhoneBatch:
    """Synthetic speech and its phones: (B, samples), (B,), (B, T) and (B, T, G) tensors."""

    waveforms: torch.Tensor
    lengths: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor


class Pretraining(nn.Module):
    """Network and objectives as one module, so that one call runs them all.

    Parameters
    ----------
    network : SpeechNetwork
    objective : Objective
        Of the recordings.
    phones : PhoneObjective or None
        Of synthetic speech.
    phone_weight : float
    """

    def __init__(
        self,
        network: SpeechNetwork,
        objective: Objective,
        phones: PhoneObjective | None = None,
        phone_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.phones = phones
        self.phone_weight = phone_weight

    def forward(
        self,
        waveforms: torch.Tensor,
        lengths: torch.Tensor,
        mask: torch.Tensor,
        targets: torch.Tensor | None,
        progress: float,
        generator: torch.Generator,
        spoken: PhoneBatch | None = None,
    ) -> ObjectiveResult:
        """Compute the loss of a batch of waveforms, (B, samples), and of synthetic speech."""
        output = self.network(waveforms, lengths, mask)
        result: ObjectiveResult = self.objective(output, mask, targets, progress, generator)
        if spoken is None or self.phones is None:
            return result
        phones = self.tell_phones(spoken)
        return ObjectiveResult(
            result.loss + self.phone_weight * phones.loss,
            {**result.metrics, **phones.metrics},
            result.count,
        )

    def tell_phones(self, spoken: PhoneBatch) -> ObjectiveResult:
        """Compute the loss of a batch of synthetic speech."""
        assert self.phones is not None
        output = self.network(spoken.waveforms, spoken.lengths, spoken.mask)
        result: ObjectiveResult = self.phones(output, spoken.targets)
        return result


def build_objective(config: PretrainConfig, network: SpeechNetwork, clusters: int) -> Objective:
    """Return the objective that the settings name."""
    if config.objective == "contrastive":
        return ContrastiveObjective(config.contrastive, network.front_end.dim, network.dim)
    return MaskedPredictionObjective(
        config.masked_prediction, network.dim, phases_of(network), clusters
    )
