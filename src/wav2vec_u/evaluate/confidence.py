"""Whether confidence tells right words from wrong ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.stats import rankdata


def right_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """Tell for every word of the hypothesis whether the alignment finds it in the reference.

    >>> right_words(["a", "b", "c"], ["a", "x", "c", "d"])
    [True, False, True, False]
    """
    right = [False] * len(hypothesis)
    for block in Levenshtein.opcodes(reference, hypothesis):
        if block.tag == "equal":
            for place in range(block.dest_start, block.dest_end):
                right[place] = True
    return right


def separation(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """Return how likely a right word has a higher confidence than a wrong one.

    The area under the receiver operating characteristic, by ranks (Mann and Whitney 1947): 0.5 is
    no better than chance, 1 is perfect. NaN where all words are right, or all are wrong.
    """
    marks = np.array(right, dtype=bool)
    positive, negative = int(marks.sum()), int((~marks).sum())
    if positive == 0 or negative == 0:
        return float("nan")
    ranks = rankdata(np.array(confidences))
    wins = ranks[marks].sum() - positive * (positive + 1) / 2
    return float(wins / (positive * negative))
