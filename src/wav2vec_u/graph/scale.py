"""How much the word model should count: two models that err elsewhere tell, without a transcript.

Where the word model counts too little, both models follow their own noise and find different words.
Where it counts too much, the words hang on what little of the likelihoods is left, and differ too.
In between, what both find is most often the same, and there it is most often right (RESULTS.md,
"How much the word model counts").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from wav2vec_u.graph.parallel import SearchSettings, find_all

SCALES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)  # that are tried
SAMPLE = 100  # utterances

_Scores = NDArray[np.float32]


def calibrate_scale(
    settings: SearchSettings, views: Sequence[tuple[_Scores, _Scores]], threads: int
) -> tuple[float, dict[float, float]]:
    """Return the scale with which two models find the same words most often.

    Parameters
    ----------
    settings : SearchSettings
        Its own scale does not matter.
    views : sequence of pairs of (T, V) float32
        What each model alone says of an utterance, as `WordSearch.find` takes it.
    threads : int

    Returns
    -------
    scale : float
        One of `SCALES`.
    disagreement : dict of float to float
        Of each scale, in percent of the words: edit operations between what both find, over the
        mean number of words; 100 where neither finds any.
    """
    disagreement = {
        scale: _disagreement(replace(settings, scale=scale), views, threads) for scale in SCALES
    }
    return min(disagreement, key=lambda scale: disagreement[scale]), disagreement


def _disagreement(
    settings: SearchSettings, views: Sequence[tuple[_Scores, _Scores]], threads: int
) -> float:
    first, second = (
        _words(settings, [view[number] for view in views], threads) for number in (0, 1)
    )
    edits = sum(Levenshtein.distance(a, b) for a, b in zip(first, second, strict=True))
    words = sum(len(a) + len(b) for a, b in zip(first, second, strict=True)) / 2
    return 100.0 * edits / words if words else 100.0


def _words(settings: SearchSettings, scores: Sequence[_Scores], threads: int) -> list[list[str]]:
    return [
        [word.word for word in found.words] if found is not None else []
        for found in find_all(settings, scores, threads)
    ]
