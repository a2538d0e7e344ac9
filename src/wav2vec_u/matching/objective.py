r"""The whole objective of the GAN, beside its equations.

Baevski et al. (2021), section 4. The generator G maps an utterance's segments S to distributions
over phones, the discriminator C tells them from real phone sequences P^u:

.. math::

    \min_G \max_C \; E_{P^u}[\log C(P^u)] + E_S[\log(1 - C(G(S)))]
        - λ L_{gp} + γ L_{sp} + η L_{pd}

C here is a logit, and the labels are those of the reference: **generated = 1, real = 0**.

Every term is a mean over utterances (or over valid steps), so that neither the batch size nor the
padding changes it. With ``reference=True`` the terms are those of the published code, so that the
published λ, γ, η mean what they meant:

* the gradient penalty takes its norm over *time*, once a symbol, sums over the symbols, and also
  sees the padding (uniform distributions of the generator, `<pad>` of the text);
* the padding's uniform distributions enter the batch mean and raise its perplexity;
* the squared differences of neighbours are divided by the padded length.

The reference sums over the batch and divides the gradient by the batch size at the end: that is
the mean over utterances written here. Its other habits (four special symbols among the outputs,
one more output than inputs for an even kernel, clipping the norm of both networks' gradients
together, text drawn with replacement) stand in `gan.py`, `generator.py` and `batches.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.discriminator import Discriminator, FusedLayer


class Generated(NamedTuple):
    """Logits (B, T, V) after joining, zero in the padding, and their mask (B, T)."""

    logits: Tensor
    mask: Tensor


class Real(NamedTuple):
    """One-hot text (B, L, V) and its mask (B, L)."""

    symbols: Tensor
    mask: Tensor


def generator_objective(
    discriminator: Discriminator, generated: Generated, config: GanConfig
) -> dict[str, Tensor]:
    """Terms that G minimises: ``adversarial + γ·smoothness + η·diversity``, weighted already.

    The generator wants its output to be called real: label 0.
    """
    probabilities = generated.logits.softmax(-1)
    scores = discriminator(probabilities, generated.mask)
    return {
        "adversarial": F.binary_cross_entropy_with_logits(scores, torch.zeros_like(scores)),
        "smoothness": config.smoothness * smoothness(generated, reference=config.reference),
        "diversity": config.diversity
        * diversity_penalty(
            perplexity(probabilities, generated.mask, reference=config.reference),
            probabilities.shape[-1],
        ),
    }


def discriminator_objective(
    discriminator: Discriminator,
    generated: Generated,
    real: Real,
    config: GanConfig,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """Terms that C minimises: cross entropy on both kinds ``+ λ·gradient penalty``."""
    fake = generated.logits.softmax(-1)
    fused = discriminator.fuse()
    fake_scores = discriminator(fake, generated.mask, fused)
    real_scores = discriminator(real.symbols, real.mask, fused)
    terms = {
        "fake": F.binary_cross_entropy_with_logits(fake_scores, torch.ones_like(fake_scores)),
        "real": F.binary_cross_entropy_with_logits(real_scores, torch.zeros_like(real_scores)),
    }
    if config.gradient_penalty > 0:
        alpha = torch.rand(len(fake), 1, 1, generator=rng, device=fake.device)
        penalty = gradient_penalty(
            discriminator, fake, generated.mask, real, alpha, fused, reference=config.reference
        )
        terms["gradient_penalty"] = config.gradient_penalty * penalty
    return terms


def gradient_penalty(
    discriminator: Discriminator,
    fake: Tensor,
    fake_mask: Tensor,
    real: Real,
    alpha: Tensor,
    fused: FusedLayer | None = None,
    *,
    reference: bool = False,
) -> Tensor:
    r"""Keep the discriminator's slope near one between real and generated sequences.

    .. math:: L_{gp} = E_{S, P^u, α}\left[(\|∇_{\tilde P} C(\tilde P)\|_2 - 1)^2\right],
              \quad \tilde P = α P^u + (1 - α) G(S)

    where a pair is cut to the shorter of its two sequences (reference: of the two batches).

    Parameters
    ----------
    fake, fake_mask : Tensor
        (B, T, V) distributions and (B, T).
    real : Real
        As many sequences of text.
    alpha : Tensor
        (B, 1, 1) in [0, 1].
    """
    steps = min(fake.shape[1], real.symbols.shape[1])
    mixed = alpha * real.symbols[:, :steps] + (1 - alpha) * fake[:, :steps]
    if not mixed.requires_grad:
        mixed.requires_grad_()
    # Both masks are prefixes: together they leave the shorter of the two sequences.
    mask = None if reference else fake_mask[:, :steps] & real.mask[:, :steps]
    scores = discriminator(mixed, mask, fused)
    # Utterances do not see each other: the gradient of the sum holds each one's gradient.
    (slope,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)  # (B, T, V)
    if reference:
        by_symbol: Tensor = torch.linalg.vector_norm(slope, dim=1)  # (B, V)
        return (by_symbol - 1).square().sum(1).mean()
    norm: Tensor = torch.linalg.vector_norm(slope, dim=(1, 2))  # (B,)
    return (norm - 1).square().mean()


def smoothness(generated: Generated, *, reference: bool = False) -> Tensor:
    r"""Neighbouring steps should not differ more than they must.

    .. math:: L_{sp} = \sum_t \| g_t - g_{t+1} \|^2

    over logits g, taken as a mean over pairs and symbols (reference code), over the valid pairs.
    """
    logits, mask = generated
    pairs = mask[:, 1:].unsqueeze(-1)
    squares = (logits[:, 1:] - logits[:, :-1]).square().masked_fill(~pairs, 0.0)
    counted = mask[:, 1:].numel() if reference else mask[:, 1:].sum()
    return squares.sum() / (torch.as_tensor(counted).clamp(min=1) * logits.shape[-1])


def perplexity(probabilities: Tensor, mask: Tensor, *, reference: bool = False) -> Tensor:
    """Perplexity of the batch's mean distribution: how many phones are in use (1 to V)."""
    if reference:
        average = probabilities.mean((0, 1))
    else:
        valid = mask.unsqueeze(-1)
        average = probabilities.masked_fill(~valid, 0.0).sum((0, 1)) / mask.sum().clamp(min=1)
    return (-(average * (average + 1e-7).log()).sum()).exp()


def diversity_penalty(perplexity_of_mean: Tensor, n_symbols: int) -> Tensor:
    r"""Use the whole phone inventory.

    The paper writes the negative entropy of the batch's mean distribution,
    :math:`L_{pd} = -H(\bar p)`; its code uses the same entropy as a perplexity,
    :math:`(V - e^{H}) / V`, and the published η belong to that.
    """
    return (n_symbols - perplexity_of_mean) / n_symbols
