r"""A game in which a sentence need only look more real than the utterance beside it.

Jolicoeur-Martineau (2019), *The relativistic discriminator*, with the zero-centred penalties of
Mescheder et al. (2018) on both kinds, as Huang et al. (2024, *The GAN is dead; long live the
GAN!*) put them together: it has no collapsed states to settle in, and converges locally.

.. math::

    L_C = E[\log(1 + e^{C(P^u) - C(G(S))})] + \frac{λ}{2} (E\|∇C(P^u)\|^2 + E\|∇C(G(S))\|^2),
    \quad L_G = E[\log(1 + e^{C(G(S)) - C(P^u)})] + γ L_{sp} + η L_{pd}

where, as everywhere here, a large C means generated.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from wav2vec_u.matching.gan.critics import Critics, Text
from wav2vec_u.matching.gan.hyperparameters import Weights
from wav2vec_u.matching.gan.objective import Generated, PaperObjective, squared_slopes


class RelativisticObjective(PaperObjective):
    """Each utterance against a sentence; the generator's other terms are those of the paper."""

    def fooled(self, critics: Critics, table: Tensor, scores: Tensor, text: Text) -> Tensor:
        """Return how far the utterances are from looking more real than the sentences, (E,)."""
        heard_text = critics.hear_text(table, text).transpose(0, 1)
        real_scores = critics.scores(heard_text, text.for_members(len(table)))
        return F.softplus(scores - real_scores).mean(1)

    def critic_terms(
        self,
        critics: Critics,
        generated: Generated,
        text: Text,
        weights: Weights,
        alpha: Tensor,
    ) -> dict[str, Tensor]:
        """``told apart + λ/2 ·`` the squared slopes at both kinds."""
        table = critics.table()
        layout, text_layout = generated.layout, text.for_members(len(table))
        heard = critics.hear(table, generated.logits.softmax(-1), layout)
        heard_text = critics.hear_text(table, text).transpose(0, 1)
        fake_scores = critics.scores(heard, layout)
        real_scores = critics.scores(heard_text, text_layout)
        steepness = squared_slopes(critics, table, heard, fake_scores, layout)
        steepness = steepness + squared_slopes(critics, table, heard_text, real_scores, text_layout)
        return {
            "apart": F.softplus(real_scores - fake_scores).mean(1),
            "gradient_penalty": weights.gradient_penalty / 2 * steepness.mean(1),
        }
