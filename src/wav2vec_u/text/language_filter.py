"""Find lines in another language without a language identifier.

The reference keeps the lines that fastText's language identification accepts. That needs a model
that knows the language, which small languages do not have. Here the text itself says what is usual:
the letter trigrams of a foreign line are rare among those of most lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

_SAMPLE_LINES = 100_000
_MIN_LINES = 100  # fewer say too little about what is usual
_MIN_CHARACTERS = 12  # shorter lines say too little about their language
_NORMAL_MAD = 1.4826  # standard deviation of a normal distribution over its median deviation
_CODE_POINT_BITS = 21


class LanguageFilter:
    """Tell lines that are far from the bulk of a text.

    A line's score is the mean log10 share of its trigrams in the text. The scores of short lines
    scatter more, as ``1 / sqrt(length)``, and their distance from the median is weighed by that.

    Parameters
    ----------
    threshold : float
        Robust standard deviations below the median from which on a line is foreign.
    """

    def __init__(self, threshold: float = 4.0) -> None:
        self.threshold = threshold

    def fit(self, lines: Iterable[str]) -> LanguageFilter:
        """Learn the trigrams of the first 100,000 normalised lines.

        With fewer than 100 lines nothing is learnt, and every line is kept.
        """
        sample = [line for line in islice(lines, _SAMPLE_LINES) if line]
        self.is_fitted_ = len(sample) >= _MIN_LINES
        if not self.is_fitted_:
            return self
        self._count(sample)
        # Foreign lines know themselves: count again without the less usual half of the lines.
        scores, _ = self._scores(sample)
        usual = scores >= np.median(scores)
        self._count([line for line, is_usual in zip(sample, usual, strict=True) if is_usual])
        scores, lengths = self._scores(sample)
        self.median_ = float(np.median(scores))
        deviations = np.abs(scores - self.median_) * np.sqrt(lengths)
        self.scale_ = float(np.median(deviations)) * _NORMAL_MAD
        return self

    def keeps(self, lines: Sequence[str]) -> NDArray[np.bool_]:
        """Tell for every normalised line whether it is kept, as bool (L,)."""
        if not self.is_fitted_ or not lines:
            return np.ones(len(lines), dtype=bool)
        scores, lengths = self._scores(lines)
        distances = (self.median_ - scores) * np.sqrt(lengths)
        return (distances <= self.threshold * self.scale_) | (lengths < _MIN_CHARACTERS)

    def _count(self, lines: Sequence[str]) -> None:
        trigrams, _ = _trigrams(lines)
        self.trigrams_, counts = np.unique(trigrams, return_counts=True)
        self.log10_shares_ = np.log10(counts / len(trigrams))
        self.log10_unseen_ = float(np.log10(0.5 / len(trigrams)))

    def _scores(self, lines: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the mean log10 share of the trigrams of every line, and their number."""
        trigrams, lengths = _trigrams(lines)
        places = np.minimum(np.searchsorted(self.trigrams_, trigrams), len(self.trigrams_) - 1)
        seen = self.trigrams_[places] == trigrams
        shares = np.where(seen, self.log10_shares_[places], self.log10_unseen_)
        rows = np.repeat(np.arange(len(lines)), lengths)
        sums = np.bincount(rows, weights=shares, minlength=len(lines))
        return sums / np.maximum(lengths, 1), lengths


def _trigrams(lines: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the trigrams of all lines, spaces around each, and the number in each line."""
    lengths = np.array([len(line) for line in lines], dtype=np.int64)
    framed = "".join(f" {line} " for line in lines)
    codes = np.frombuffer(framed.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    keys = (codes[:-2] << _CODE_POINT_BITS | codes[1:-1]) << _CODE_POINT_BITS | codes[2:]
    ends = np.cumsum(lengths + 2)
    inside = np.ones(len(codes), dtype=bool)
    inside[ends - 1] = inside[ends - 2] = False  # trigrams that reach into the next line
    return keys[inside[:-2]], lengths
