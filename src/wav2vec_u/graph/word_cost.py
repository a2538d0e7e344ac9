"""What a word has to cost so that words are as long as those of the text: no transcript is needed.

A search among likelihoods that are often wrong prefers many short words to few long ones, or the
other way round, and its errors show it: the words found have fewer phones than those of the text.
The cost of a word is where that can be set right, and the text says what is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.graph.parallel import SearchSettings, find_all

TRAIN_SPLIT = "train"
COSTS = (0.0, 1.0, 2.0, 3.0, 4.0)  # nats that are tried, in order
SAMPLE = 300  # utterances; a hundred of them miss the length of words by a twentieth (measured)


def calibrate_word_cost(
    settings: SearchSettings,
    scores: Sequence[NDArray[np.float32]],
    phones_per_word: float,
    threads: int,
) -> float:
    """Return the cost with which the words found have as many phones as words of the text.

    Parameters
    ----------
    settings : SearchSettings
        Its own cost does not matter.
    scores : sequence of (T, V) float32
        As `WordSearch.find` takes them, of some utterances.
    phones_per_word : float
        Of the text.
    threads : int

    Returns
    -------
    float
        Nats. Between two of `COSTS` on a straight line; the least where words are long enough as
        they are, and the greatest where they never are.
    """
    before_cost = before_length = 0.0
    for cost in COSTS:
        length = _phones_per_word(replace(settings, word_cost=cost), scores, threads)
        if length >= phones_per_word:
            if cost == COSTS[0]:
                return cost
            share = (phones_per_word - before_length) / (length - before_length)
            return round(before_cost + share * (cost - before_cost), 2)
        before_cost, before_length = cost, length
    return COSTS[-1]


def _phones_per_word(
    settings: SearchSettings, scores: Sequence[NDArray[np.float32]], threads: int
) -> float:
    """Count what is found; 0 where no word is."""
    phones = words = 0
    for found in find_all(settings, scores, threads):
        if found is not None:
            phones += len(found.phones())
            words += len(found.words)
    return phones / words if words else 0.0


def places_to_sample(splits: Sequence[str], most: int = SAMPLE) -> list[int]:
    """Return some places of utterances of split ``train``, from everywhere in the corpus.

    What is reported on a test must not be chosen by hearing it. Where no utterance is of that
    split, all are there to be sampled.
    """
    learned = [i for i, split in enumerate(splits) if split == TRAIN_SPLIT]
    places = learned or list(range(len(splits)))
    return places[:: max(1, -(-len(places) // most))]
