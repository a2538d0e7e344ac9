"""The losses of pre-training, beside their equations.

wav2vec 2.0 (Baevski et al. 2020, section 3.2)::

    L   = L_m + α L_d                                                                  (2)

                    exp(sim(c_t, q_t) / κ)
    L_m = -log ---------------------------------,  sim(a, b) = a·b / (|a| |b|)         (3)
               Σ_{q̃ ∈ Q_t} exp(sim(c_t, q̃) / κ)

    L_d = 1/(GV) Σ_g -H(p̄_g) = 1/(GV) Σ_g Σ_v p̄_gv log p̄_gv                           (4)

Q_t holds q_t and K distractors, and p̄_g is the mean softmax of codebook g over the masked steps of
a batch, without Gumbel noise. To these the published code (fairseq) adds the mean square of the
front end's output, here `feature_penalty`.

HuBERT (Hsu et al. 2021, section II; its α is 1 here and its 1 - α is w)::

    L = Σ_{t masked} -log p(z_t | X, t) + w Σ_{t not masked} -log p(z_t | X, t)
    p(k | X, t) = exp(sim(A c_t, e_k) / τ) / Σ_k' exp(sim(A c_t, e_k') / τ)

All of it is computed in single precision, under autocast as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

NO_TARGET = -1  # in the targets of masked prediction
COSINE_EPS = 1e-8


@dataclass(frozen=True)
class ContrastiveLoss:
    """Equation 3 over a batch.

    Attributes
    ----------
    total : scalar tensor
        Sum of L_m over the masked steps.
    right : scalar int tensor
        Masked steps whose target is more similar to the context than every distractor. Distractors
        equal to the target do not count, and a step that has no others is not right.
    count : int
        Masked steps.
    """

    total: torch.Tensor
    right: torch.Tensor
    count: int


@dataclass(frozen=True)
class MaskedPredictionLoss:
    """HuBERT's loss over a batch; a target is one cluster of one codebook at one step.

    Attributes
    ----------
    loss : scalar tensor
        Of masked steps, plus the weighted one of the others, by masked target.
    masked, unmasked : scalar tensors
        Mean cross-entropy by masked target, and by target that is not masked; 0 where there is
        none.
    right, right_unmasked : scalar int tensors
        Targets whose logit is the highest.
    count, count_unmasked : int
        Targets.
    """

    loss: torch.Tensor
    masked: torch.Tensor
    unmasked: torch.Tensor
    right: torch.Tensor
    right_unmasked: torch.Tensor
    count: int
    count_unmasked: int


def sample_distractors(mask: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw other masked steps of the same utterance, uniformly and with replacement.

    Parameters
    ----------
    mask : (B, T) bool tensor
    count : int
        K, distractors of a step.
    generator : torch.Generator
        The numbers are drawn on its device.

    Returns
    -------
    (B, T, K) int64 tensor
        Steps. Where there is nothing to choose from (the step is not masked, or is the only masked
        one of its utterance) the step itself, which `contrastive_loss` leaves out.
    """
    n_masked = mask.sum(dim=1)[:, None, None]  # (B, 1, 1)
    rank = (mask.cumsum(dim=1) - 1)[:, :, None]  # (B, T, 1): place among the masked steps
    shape = (*mask.shape, count)
    uniform = torch.rand(shape, generator=generator, device=generator.device).to(mask.device)
    others = (n_masked - 1).clamp(min=1)
    drawn = (uniform * others).long().clamp(max=others - 1)  # (B, T, K): ranks without the own
    drawn = drawn + (drawn >= rank)
    # Stable, so that the masked steps come first and in order: rank to step.
    steps = (~mask).long().argsort(dim=1, stable=True)  # (B, T)
    last = mask.shape[1] - 1  # a lone masked step has ranks beyond the masked ones
    chosen = steps.gather(1, drawn.clamp(max=last).flatten(1)).view(shape)
    own = torch.arange(mask.shape[1], device=mask.device)[None, :, None]  # (1, T, 1)
    return torch.where(mask[:, :, None] & (n_masked > 1), chosen, own)


def contrastive_loss(
    context: torch.Tensor,
    quantized: torch.Tensor,
    mask: torch.Tensor,
    distractors: torch.Tensor,
    temperature: float,
) -> ContrastiveLoss:
    """Equation 3: tell the quantized step behind the mask from distractors.

    Parameters
    ----------
    context : (B, T, F) tensor
        c, projected.
    quantized : (B, T, F) tensor
        q, projected. Only its masked steps are used.
    mask : (B, T) bool tensor
    distractors : (B, T, K) int64 tensor
        Masked steps of the same utterance, as from `sample_distractors`.
    temperature : float
        κ.

    Notes
    -----
    A distractor equal to the target (the same codes) would ask for the impossible. As in the
    published code it is left out of the sum.
    """
    utterance, step = mask.nonzero(as_tuple=True)  # (N,), (N,)
    candidates = torch.cat([step[:, None], distractors[mask]], dim=1)  # (N, 1 + K): target first
    with torch.autocast(context.device.type, enabled=False):
        # All pairs of an utterance by one product: T is small beside the K copies of F numbers
        # that gathering the distractors would make.
        c = F.normalize(context.float(), dim=2, eps=COSINE_EPS)
        q = F.normalize(quantized.float(), dim=2, eps=COSINE_EPS)
        similarity = (c @ q.transpose(1, 2))[utterance, step]  # (N, T)
        logits = similarity.gather(1, candidates) / temperature  # (N, 1 + K)
        kinds = torch.zeros_like(mask, dtype=torch.long)  # (B, T)
        kinds[mask] = _kinds(quantized[mask])
        kind = kinds[utterance].gather(1, candidates)  # (N, 1 + K)
        same = kind[:, 1:] == kind[:, :1]  # (N, K)
        target, others = logits[:, 0], logits[:, 1:].masked_fill(same, -torch.inf)
        total = torch.logsumexp(torch.cat([target[:, None], others], dim=1), dim=1) - target
        right = (others < target[:, None]).all(dim=1) & ~same.all(dim=1)
    return ContrastiveLoss(total.sum(), right.sum(), len(step))


def diversity_loss(probabilities: torch.Tensor) -> torch.Tensor:
    """Equation 4 as printed: grows less as the codes are used more evenly.

    Parameters
    ----------
    probabilities : (G, V) tensor
        p̄, rows sum to 1.

    Returns
    -------
    scalar tensor
        From ``-log(V) / V`` (all codes equally often) to 0 (one code of each codebook).
    """
    return -entropy(probabilities).sum() / probabilities.numel()


def perplexity_diversity_loss(probabilities: torch.Tensor) -> torch.Tensor:
    """Equation 4 as the published code has it: exp(H) in the place of H.

    ``(GV - Σ_g exp H(p̄_g)) / GV``, from 0 (all codes equally often) to ``1 - 1/V`` (one code of
    each codebook). It falls as every entropy grows, so its minimum is that of `diversity_loss`; it
    pulls harder, exp H times as hard, and α = 0.1 goes with it there. fairseq and transformers
    multiply it by the number of masked steps, because their L_m is a sum over these.

    Parameters
    ----------
    probabilities : (G, V) tensor
    """
    return 1 - code_perplexity(probabilities).sum() / probabilities.numel()


def code_perplexity(probabilities: torch.Tensor) -> torch.Tensor:
    """Effective number of codes in use, exp H, of each codebook: (G, V) to (G,)."""
    return entropy(probabilities).exp()


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """H in nats of each row, (G, V) to (G,); codes never used have a finite gradient."""
    probabilities = probabilities.float()
    tiny = torch.finfo(probabilities.dtype).tiny
    return -(probabilities * probabilities.clamp(min=tiny).log()).sum(dim=1)


def feature_penalty(features: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean square of the front end's output over the steps inside the utterances.

    Parameters
    ----------
    features : (B, T, C) tensor
        Before any normalisation: of normalised features it says nothing.
    valid : (B, T) bool tensor
    """
    squares = features.float().square().mean(dim=2)  # (B, T)
    return squares.masked_fill(~valid, 0.0).sum() / valid.sum().clamp(min=1)


def masked_prediction_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor,
    valid: torch.Tensor,
    unmasked_weight: float,
) -> MaskedPredictionLoss:
    """HuBERT's loss: tell the cluster of each step, above all of the masked ones.

    Parameters
    ----------
    logits : (B, T, G, K) tensor
        ``sim(A c_t, e_k) / τ`` for each of G codebooks.
    targets : (B, T, G) int64 tensor
        z, the clusters; -1 where there is none.
    mask : (B, T) bool tensor
    valid : (B, T) bool tensor
    unmasked_weight : float
        w, weight of a step that is not masked; 0 in the paper's best systems.
    """
    total, right, count = _cross_entropy(logits, targets, mask)
    total_unmasked, right_unmasked, count_unmasked = _cross_entropy(logits, targets, valid & ~mask)
    return MaskedPredictionLoss(
        loss=(total + unmasked_weight * total_unmasked) / max(count, 1),
        masked=total / max(count, 1),
        unmasked=total_unmasked / max(count_unmasked, 1),
        right=right,
        right_unmasked=right_unmasked,
        count=count,
        count_unmasked=count_unmasked,
    )


def _cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, steps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, int]:
    # Sum of the cross-entropies, number right, number of targets, over the given (B, T) steps.
    scores = logits[steps].float().flatten(0, 1)  # (N * G, K)
    wanted = targets[steps].flatten()  # (N * G,)
    total = F.cross_entropy(scores, wanted, ignore_index=NO_TARGET, reduction="sum")
    right = (scores.argmax(dim=1) == wanted).sum()
    return total, right, int((wanted != NO_TARGET).sum())


def _kinds(vectors: torch.Tensor) -> torch.Tensor:
    # (N, F) to (N,): equal rows, and no others, get equal numbers. NaN would upset the sorting.
    finite = vectors.detach().float().nan_to_num()
    kinds: torch.Tensor = torch.unique(finite, dim=0, return_inverse=True)[1]
    return kinds
