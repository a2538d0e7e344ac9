"""No game: generators match the statistics of the text, and no discriminator is asked.

Tables of one batch must stand for those of the language, so batches are to be large.
"""

from __future__ import annotations

from torch import Tensor

from wav2vec_u.matching.gan.critics import Critics, Text
from wav2vec_u.matching.gan.hyperparameters import Weights
from wav2vec_u.matching.gan.objective import Generated, side_terms
from wav2vec_u.matching.gan.text_statistics import TextStatistics


class StatisticsObjective:
    """What `TextStatistics` tells, with smoothness and diversity.

    Parameters
    ----------
    statistics : TextStatistics
    """

    def __init__(self, statistics: TextStatistics) -> None:
        self._statistics = statistics

    def generator_terms(
        self, critics: Critics, generated: Generated, text: Text, weights: Weights
    ) -> dict[str, Tensor]:
        """``skip-grams + positions + γ·smoothness + η·diversity``."""
        probabilities = generated.logits.softmax(-1)
        return side_terms(generated, probabilities, weights, self._statistics)

    def critic_terms(
        self,
        critics: Critics,
        generated: Generated,
        text: Text,
        weights: Weights,
        alpha: Tensor,
    ) -> dict[str, Tensor]:
        """Never asked for: no update is the discriminators' (`turns.Turns`)."""
        raise NotImplementedError("there is no discriminator to train")
