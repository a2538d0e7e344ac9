"""Agreement between independent restarts: the sign, without labels, that they found the language.

There are countless ways to fall into a fluent private code and one language. Restarts that say the
same of the same utterances have therefore found something that is in the data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from wav2vec_u.matching.selection import Candidate

CONVERGED_BELOW = 40.0  # percent; private codes lie 80 and more apart


def disagreements(candidates: list[Candidate]) -> NDArray[np.float64]:
    """Measure how far each restart is from each other one.

    Parameters
    ----------
    candidates : list of Candidate
        Of the same utterances.

    Returns
    -------
    ndarray, shape (M, M)
        Edit distance in percent of the phones of the longer transcripts; 100 where neither says
        anything; NaN on the diagonal.
    """
    count = len(candidates)
    found = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(i + 1, count):
            found[i, j] = found[j, i] = _disagreement(candidates[i], candidates[j])
    return found


def _disagreement(first: Candidate, second: Candidate) -> float:
    distance = length = 0
    for one, other in zip(first.hypotheses, second.hypotheses, strict=True):
        distance += Levenshtein.distance(one.tolist(), other.tolist())
        length += max(len(one), len(other))
    return 100.0 * distance / length if length else 100.0


def nearest(found: NDArray[np.float64]) -> list[float | None]:
    """Return each restart's distance to the one closest to it; None if there is no other."""
    if len(found) < 2:
        return [None] * len(found)
    return [float(np.nanmin(row)) for row in found]
