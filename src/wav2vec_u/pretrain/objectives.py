"""What the network is asked to do: wav2vec 2.0's contrastive task, or HuBERT's prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from wav2vec_u.config import ContrastiveConfig, MaskedPredictionConfig
from wav2vec_u.encoder.network import NetworkOutput
from wav2vec_u.pretrain.losses import (
    COSINE_EPS,
    NO_TARGET,
    code_perplexity,
    contrastive_loss,
    diversity_loss,
    feature_penalty,
    masked_prediction_loss,
    perplexity_diversity_loss,
    sample_distractors,
)


@dataclass(frozen=True)
class ObjectiveResult:
    """The loss of a batch.

    Attributes
    ----------
    loss : scalar tensor
        Mean over the masked steps (masked targets), to be minimised.
    metrics : dict of scalar tensors
        What to log, without gradient.
    count : int
        What `loss` is the mean over: the weight of the batch where batches are averaged.
    """

    loss: torch.Tensor
    metrics: dict[str, torch.Tensor]
    count: int


class Objective(nn.Module, ABC):
    """What is learned on top of the network during pre-training, and thrown away after it."""

    @abstractmethod
    def forward(
        self,
        output: NetworkOutput,
        mask: torch.Tensor,
        targets: torch.Tensor | None,
        progress: float,
        generator: torch.Generator,
    ) -> ObjectiveResult:
        """Compute the loss of a batch.

        Parameters
        ----------
        output : NetworkOutput
            Of the masked batch.
        mask : (B, T) bool tensor
            Steps that the context network did not see.
        targets : (B, T, G) int64 tensor or None
            Clusters; -1 where there is none. The contrastive objective needs none.
        progress : float
            Updates done, as a share of all: 0 to 1.
        generator : torch.Generator
            For all that is drawn here but dropout, on its own device; on a GPU one of that GPU is
            faster.

        Raises
        ------
        ValueError
            If targets are needed and missing.
        """


class ProductQuantizer(nn.Module):
    """Choose one entry of each codebook for a vector (wav2vec 2.0, equation 1).

    The same as transformers' ``Wav2Vec2GumbelVectorQuantizer``, whose weights it can load, but with
    noise from a generator, and without its copy of all codebooks for every step, which takes
    gigabytes for a batch.

    Parameters
    ----------
    input_dim : int
        C.
    codebooks, codes : int
        G and V.
    dim : int
        Of the result: G entries of ``dim / G`` numbers.
    """

    def __init__(self, input_dim: int, codebooks: int, codes: int, dim: int) -> None:
        super().__init__()
        self.codebooks = codebooks
        self.codes = codes
        self.weight_proj = nn.Linear(input_dim, codebooks * codes)
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)
        entries = torch.empty(1, codebooks * codes, dim // codebooks).uniform_()
        self.codevectors = nn.Parameter(entries)

    def forward(
        self, vectors: torch.Tensor, temperature: float, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Quantize.

        Parameters
        ----------
        vectors : (N, C) tensor
        temperature : float
            Of the Gumbel softmax whose gradient stands in for that of the choice. Used in training
            only, as is the noise; otherwise the likeliest entries are taken.
        generator : torch.Generator

        Returns
        -------
        quantized : (N, dim) tensor
        probabilities : (N, G, V) float32 tensor
            Softmax, without noise.
        choices : (N, G, V) float32 tensor
            One-hot, with the gradient of the softmax at `temperature` in training.
        """
        logits = self.weight_proj(vectors).float()  # (N, G * V)
        logits = logits.unflatten(1, (self.codebooks, self.codes))  # (N, G, V)
        probabilities = logits.softmax(dim=2)
        if self.training:
            noise = torch.empty(logits.shape, device=generator.device)
            noise = -noise.exponential_(generator=generator).log()
            soft = ((logits + noise.to(logits.device)) / temperature).softmax(dim=2)
            # Straight through: the value of the choice, the gradient of the softmax.
            choices = _one_hot(soft) + (soft - soft.detach())
        else:
            choices = _one_hot(probabilities)
        entries = self.codevectors.view(self.codebooks, self.codes, -1)  # (G, V, dim / G)
        quantized = torch.einsum("ngv,gvd->ngd", choices, entries)  # (N, G, dim / G)
        return quantized.flatten(1), probabilities, choices


class ContrastiveObjective(Objective):
    """wav2vec 2.0: tell the quantized features behind the mask from distractors.

    Parameters
    ----------
    config : ContrastiveConfig
    feature_dim : int
        C, of ``NetworkOutput.features``.
    context_dim : int
        D, of ``NetworkOutput.context``.
    """

    def __init__(self, config: ContrastiveConfig, feature_dim: int, context_dim: int) -> None:
        super().__init__()
        self.config = config
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.quantizer = ProductQuantizer(
            feature_dim, config.codebooks, config.codes, config.codebooks * config.entry_dim
        )
        self.project_context = nn.Linear(context_dim, config.projection_dim)
        self.project_quantized = nn.Linear(
            config.codebooks * config.entry_dim, config.projection_dim
        )

    def gumbel_temperature(self, progress: float) -> float:
        """Return the temperature at a share of the training: the same factor every update."""
        start, end = self.config.start_temperature, self.config.end_temperature
        return float(start * (end / start) ** min(max(progress, 0.0), 1.0))

    def forward(
        self,
        output: NetworkOutput,
        mask: torch.Tensor,
        targets: torch.Tensor | None,
        progress: float,
        generator: torch.Generator,
    ) -> ObjectiveResult:
        """Compute the loss of a batch; see `Objective.forward`."""
        config = self.config
        temperature = self.gumbel_temperature(progress)
        # Targets and distractors are masked steps, so that no others need be quantized.
        features = self.feature_dropout(output.features[mask])  # (N, C)
        codes, probabilities, choices = self.quantizer(features, temperature, generator)
        context = self.project_context(output.context)  # (B, T, F)
        targets_of_masked = self.project_quantized(codes).to(context.dtype)  # (N, F)
        quantized = torch.zeros_like(context)
        quantized[mask] = targets_of_masked
        distractors = sample_distractors(mask, config.distractors, generator)  # (B, T, K)
        contrastive = contrastive_loss(
            context, quantized, mask, distractors, config.similarity_temperature
        )
        count = max(contrastive.count, 1)
        mean_probabilities = probabilities.sum(dim=0) / count  # (G, V)
        usage = choices.detach().sum(dim=0) / count  # (G, V)
        diversity = (
            diversity_loss(mean_probabilities)
            if config.diversity_form == "entropy"
            else perplexity_diversity_loss(mean_probabilities)
        )
        loss = contrastive.total / count + config.diversity_weight * diversity
        metrics = {
            "contrastive": contrastive.total.detach() / count,
            "diversity": diversity.detach(),
            "accuracy": contrastive.right / count,
            "code_perplexity": code_perplexity(usage).sum(),
            "probability_perplexity": code_perplexity(mean_probabilities.detach()).sum(),
            "temperature": torch.tensor(temperature),
        }
        if output.front is not None:
            penalty = feature_penalty(output.front, output.valid)
            loss = loss + config.feature_penalty * penalty
            metrics["feature_penalty"] = penalty.detach()
        return ObjectiveResult(loss, metrics, contrastive.count)


class MaskedPredictionObjective(Objective):
    """HuBERT: tell the clusters of the masked steps.

    Parameters
    ----------
    config : MaskedPredictionConfig
    context_dim : int
        D, of ``NetworkOutput.context``.
    codebooks : int
        G, targets of a step; each codebook has a projection and embeddings of its own.
    clusters : int
        K, clusters of a codebook.
    """

    def __init__(
        self, config: MaskedPredictionConfig, context_dim: int, codebooks: int, clusters: int
    ) -> None:
        super().__init__()
        self.config = config
        self.codebooks = codebooks
        self.project_context = nn.Linear(context_dim, codebooks * config.projection_dim)
        # Only their directions count, and these are spread evenly by a normal distribution.
        embeddings = torch.empty(codebooks, clusters, config.projection_dim).normal_()
        self.embeddings = nn.Parameter(embeddings)

    def logits(self, context: torch.Tensor) -> torch.Tensor:
        """Compare the context with every cluster: (B, T, D) to (B, T, G, K)."""
        projected = self.project_context(context)  # (B, T, G * F)
        projected = projected.unflatten(2, (self.codebooks, -1))  # (B, T, G, F)
        with torch.autocast(context.device.type, enabled=False):
            projected = F.normalize(projected.float(), dim=3, eps=COSINE_EPS)
            embeddings = F.normalize(self.embeddings.float(), dim=2, eps=COSINE_EPS)
            similarity = torch.einsum("btgf,gkf->btgk", projected, embeddings)
        return similarity / self.config.similarity_temperature

    def forward(
        self,
        output: NetworkOutput,
        mask: torch.Tensor,
        targets: torch.Tensor | None,
        progress: float,
        generator: torch.Generator,
    ) -> ObjectiveResult:
        """Compute the loss of a batch; see `Objective.forward`."""
        if targets is None:
            raise ValueError("masked prediction needs targets")
        prediction = masked_prediction_loss(
            self.logits(output.context), targets, mask, output.valid, self.config.unmasked_weight
        )
        loss = prediction.loss
        metrics = {
            "masked": prediction.masked.detach(),
            "unmasked": prediction.unmasked.detach(),
            "accuracy": prediction.right / max(prediction.count, 1),
            "accuracy_unmasked": prediction.right_unmasked / max(prediction.count_unmasked, 1),
        }
        if output.front is not None:
            penalty = feature_penalty(output.front, output.valid)
            loss = loss + self.config.feature_penalty * penalty
            metrics["feature_penalty"] = penalty.detach()
        return ObjectiveResult(loss, metrics, prediction.count)


class PhoneObjective(nn.Module):
    """Tell the phones of synthetic speech, hidden steps and others alike.

    Parameters
    ----------
    context_dim : int
        D, of ``NetworkOutput.context``.
    codebooks : int
        G, phones of a step: one for each 20 ms.
    phones : int
        P, the pause among them.
    """

    def __init__(self, context_dim: int, codebooks: int, phones: int) -> None:
        super().__init__()
        self.codebooks = codebooks
        self.output = nn.Linear(context_dim, codebooks * phones)

    def logits(self, context: torch.Tensor) -> torch.Tensor:
        """Score every phone: (B, T, D) to (B, T, G, P)."""
        scores: torch.Tensor = self.output(context).unflatten(2, (self.codebooks, -1))
        return scores.float()

    def forward(self, output: NetworkOutput, targets: torch.Tensor) -> ObjectiveResult:
        """Compute the mean cross-entropy of the steps that have a target.

        Parameters
        ----------
        output : NetworkOutput
        targets : (B, T, G) int64 tensor
            Phones; -1 where there is none that is asked for.
        """
        logits = self.logits(output.context)
        asked = targets >= 0
        count = int(asked.sum())
        total = F.cross_entropy(
            logits.flatten(0, 2), targets.flatten(), ignore_index=NO_TARGET, reduction="sum"
        )
        right = ((logits.argmax(dim=3) == targets) & asked).sum()
        loss = total / max(count, 1)
        metrics = {"phone_loss": loss.detach(), "phone_accuracy": right / max(count, 1)}
        return ObjectiveResult(loss, metrics, count)


def _one_hot(scores: torch.Tensor) -> torch.Tensor:
    # 1 at the highest of the last dimension, without gradient.
    highest = scores.argmax(dim=-1, keepdim=True)
    return torch.zeros_like(scores).scatter_(-1, highest, 1.0).detach()
