r"""The whole objective of the GAN, beside its equations, for all members at once.

Baevski et al. (2021), section 4. The generator G maps an utterance's segments S to distributions
over phones, the discriminator C tells them from real phone sequences P^u:

.. math::

    \min_G \max_C \; E_{P^u}[\log C(P^u)] + E_S[\log(1 - C(G(S)))]
        - λ L_{gp} + γ L_{sp} + η L_{pd}

C here is a logit, and the labels are those of the reference: **generated = 1, real = 0**. Every
term is a mean over utterances or steps, of each member by itself: (E,). The terms of the published
code, which differ, stand in `reference.py`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from wav2vec_u.matching.gan.critics import Critics, Text
from wav2vec_u.matching.gan.hyperparameters import Weights
from wav2vec_u.matching.gan.layout import Layout
from wav2vec_u.matching.gan.text_statistics import TextStatistics


class Generated(NamedTuple):
    """Logits (E, N, V) after joining, zero where not valid, and where they stand."""

    logits: Tensor
    layout: Layout


class Objective(Protocol):
    """What the two sides of the game minimise."""

    def generator_terms(
        self, critics: Critics, generated: Generated, text: Text, weights: Weights, /
    ) -> dict[str, Tensor]:
        """Terms that G minimises, weighted already, (E,) each."""

    def critic_terms(
        self,
        critics: Critics,
        generated: Generated,
        text: Text,
        weights: Weights,
        alpha: Tensor,
        /,
    ) -> dict[str, Tensor]:
        """Terms that C minimises, weighted already, (E,) each; `alpha` is (B,) in [0, 1)."""


class PaperObjective:
    """Cross entropy of each side by itself, and a slope near one.

    Parameters
    ----------
    statistics : TextStatistics
    """

    def __init__(self, statistics: TextStatistics) -> None:
        self._statistics = statistics

    def generator_terms(
        self, critics: Critics, generated: Generated, text: Text, weights: Weights
    ) -> dict[str, Tensor]:
        """``adversarial + γ·smoothness + η·diversity``: be called real, label 0."""
        table, probabilities = critics.table(), generated.logits.softmax(-1)
        heard = critics.hear(table, probabilities, generated.layout)
        scores = critics.scores(heard, generated.layout)
        return {
            "adversarial": self.fooled(critics, table, scores, text),
            **side_terms(generated, probabilities, weights, self._statistics),
        }

    def fooled(self, critics: Critics, table: Tensor, scores: Tensor, text: Text) -> Tensor:
        """Return how far the discriminators are from calling the utterances (E, B) real, (E,)."""
        return F.softplus(scores).mean(1)

    def critic_terms(
        self,
        critics: Critics,
        generated: Generated,
        text: Text,
        weights: Weights,
        alpha: Tensor,
    ) -> dict[str, Tensor]:
        """Cross entropy on both kinds ``+ λ·gradient penalty``, of mixtures of `alpha` text."""
        table = critics.table()
        heard = critics.hear(table, generated.logits.softmax(-1), generated.layout)
        heard_text = critics.hear_text(table, text)
        fake_scores = critics.scores(heard, generated.layout)
        real_scores = critics.scores(heard_text.transpose(0, 1), text.for_members(len(table)))
        penalty = gradient_penalty(critics, table, heard, generated.layout, heard_text, text, alpha)
        return {
            "fake": F.softplus(-fake_scores).mean(1),
            "real": F.softplus(real_scores).mean(1),
            "gradient_penalty": weights.gradient_penalty * penalty,
        }


def side_terms(
    generated: Generated, probabilities: Tensor, weights: Weights, statistics: TextStatistics
) -> dict[str, Tensor]:
    """Terms of the generator that ask no discriminator, weighted already."""
    spread = perplexity(probabilities, generated.layout)
    return {
        "smoothness": weights.smoothness * smoothness(generated),
        "diversity": weights.diversity * diversity_penalty(spread, probabilities.shape[-1]),
        **statistics.distances(probabilities, generated.layout, weights),
    }


def gradient_penalty(
    critics: Critics,
    table: Tensor,
    heard: Tensor,
    layout: Layout,
    heard_text: Tensor,
    text: Text,
    alpha: Tensor,
) -> Tensor:
    r"""Keep the discriminator's slope near one between real and generated sequences.

    .. math:: L_{gp} = E_{S, P^u, α}\left[(\|∇_{\tilde P} C(\tilde P)\|_2 - 1)^2\right],
              \quad \tilde P = α P^u + (1 - α) G(S)

    where a pair is cut to the shorter of its two sequences. The first layers are linear, so what
    they say of the mixture is the mixture of what they said of both, and is not computed again.

    Parameters
    ----------
    heard, layout
        (E, N, D) of the generated utterances.
    heard_text : Tensor
        (M, E, D) of as many sentences of text.
    alpha : Tensor
        (B,) in [0, 1].

    Returns
    -------
    Tensor
        (E,).
    """
    members = len(table)
    text_lengths = text.layout.lengths  # (1, B)
    paired = torch.minimum(layout.lengths, text_lengths)  # (E, B)
    text_first = (text_lengths.cumsum(1) - text_lengths).expand(members, -1)
    inside = layout.position < paired.gather(1, layout.utterance)
    source = text_first.gather(1, layout.utterance) + layout.position.masked_fill(~inside, 0)
    member = torch.arange(members, device=source.device).unsqueeze(1)
    partner = F.embedding(source * members + member, heard_text.reshape(-1, heard.shape[-1]))
    mixed = torch.lerp(heard, partner, alpha[layout.utterance].unsqueeze(-1))  # (E, N, D)
    scores = critics.scores(mixed, layout, paired)
    norm = squared_slopes(critics, table, mixed, scores, layout).clamp(min=1e-24).sqrt()
    return (norm - 1).square().mean(1)


def squared_slopes(
    critics: Critics, table: Tensor, heard: Tensor, scores: Tensor, layout: Layout
) -> Tensor:
    """Return the squared norm of each score's gradient by its utterance, (E, B)."""
    # Utterances do not see each other: the gradient of the sum holds each one's gradient.
    (by_heard,) = torch.autograd.grad(scores.sum(), heard, create_graph=True)
    slope = critics.slope(table, by_heard, layout)  # (E, N, V)
    return layout.sums(slope.square().sum(-1))


def smoothness(generated: Generated) -> Tensor:
    r"""Neighbouring steps should not differ more than they must.

    .. math:: L_{sp} = \sum_t \| g_t - g_{t+1} \|^2

    over logits g, taken as a mean over pairs and symbols (reference code), over the valid pairs.
    """
    logits, layout = generated
    pairs = (layout.valid & (layout.position > 0))[:, 1:]
    squares = (logits[:, 1:] - logits[:, :-1]).square().sum(-1).masked_fill(~pairs, 0.0)
    return squares.sum(1) / (pairs.sum(1).clamp(min=1) * logits.shape[-1])


def perplexity(probabilities: Tensor, layout: Layout) -> Tensor:
    """Perplexity of the batch's mean distribution: how many phones are in use (1 to V)."""
    valid = layout.valid.unsqueeze(-1)
    average = probabilities.masked_fill(~valid, 0.0).sum(1) / layout.valid.sum(1, keepdim=True)
    return (-(average * (average + 1e-7).log()).sum(-1)).exp()


def diversity_penalty(perplexity_of_mean: Tensor, n_symbols: int) -> Tensor:
    r"""Use the whole phone inventory.

    The paper writes the negative entropy of the batch's mean distribution,
    :math:`L_{pd} = -H(\bar p)`; its code uses the same entropy as a perplexity,
    :math:`(V - e^{H}) / V`, and the published η belong to that.
    """
    return (n_symbols - perplexity_of_mean) / n_symbols
