"""The weights of the search that are found without labels: what a word costs, and the scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from wav2vec_u.config import WordsConfig
from wav2vec_u.graph import scale, word_cost
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.selftrain.frame_model import FrameReader
from wav2vec_u.selftrain.inputs import Inputs

SCALE_OF_ONE = 0.7  # where a model has no second part to compare with


@dataclass(frozen=True)
class Tuning:
    """What is to be found.

    Attributes
    ----------
    scale : bool
        The factor on the likelihoods; else that of the settings stays.
    phones_per_word : float or None
        Of the text: what a word costs is found by it. None: the cost stays that of the settings.
    """

    scale: bool = False
    phones_per_word: float | None = None

    @classmethod
    def of(cls, config: WordsConfig, phones_per_word: float) -> Tuning:
        """Return what the settings leave to be found."""
        return cls(config.scale == "auto", phones_per_word if config.word_cost == "auto" else None)

    def tune(
        self, settings: SearchSettings, store: Inputs, model: FrameReader, threads: int
    ) -> tuple[SearchSettings, dict[str, Any]]:
        """Find the weights on utterances that are learned from.

        Parameters
        ----------
        settings : SearchSettings
        store : Inputs
            What `model` reads.
        model : FrameReader
        threads : int

        Returns
        -------
        settings : SearchSettings
            With these weights.
        figures : dict
            ``disagreement``: of the two parts of the model, percent of the words, by scale.
        """
        figures: dict[str, Any] = {}
        if self.scale:
            settings = replace(settings, scale=SCALE_OF_ONE)
            places = word_cost.places_to_sample(store.splits, scale.SAMPLE)
            views = [
                views
                for vectors in _finite(store, model, places)
                if (views := model.views(vectors)) is not None
            ]
            if views:
                best, disagreement = scale.calibrate_scale(settings, views, threads)
                settings = replace(settings, scale=best)
                figures["disagreement"] = {
                    str(tried): round(rate, 2) for tried, rate in disagreement.items()
                }
        if self.phones_per_word is not None:
            places = word_cost.places_to_sample(store.splits)
            some = [model.likelihoods(vectors) for vectors in _finite(store, model, places)]
            cost = word_cost.calibrate_word_cost(settings, some, self.phones_per_word, threads)
            settings = replace(settings, word_cost=cost)
        return settings, figures


def _finite(store: Inputs, model: FrameReader, places: list[int]) -> Iterator[Any]:
    """Yield the vectors of which the model says something finite."""
    for place in places:
        vectors = store.vectors(place)
        try:
            model.likelihoods(vectors)
        except FloatingPointError:
            continue  # listed where all are decoded
        yield vectors
