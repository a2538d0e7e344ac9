"""Phone error rates, and how far they can be trusted.

Counting is by minimum edit distance; rates are pooled over utterances (all errors over all
reference phones), as the literature reports them. The interval comes from resampling utterances
(Bisani and Ney, 2004, *Bootstrap estimates for confidence intervals in ASR performance
evaluation*).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True)
class Errors:
    """Edit operations between a reference and a hypothesis; add two to pool them."""

    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    reference_phones: int = 0

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
            self.reference_phones + other.reference_phones,
        )

    @property
    def total(self) -> int:
        """Number of edit operations."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def rate(self) -> float:
        """Errors in percent of the reference phones (may exceed 100; NaN without references)."""
        return percent(self.total, self.reference_phones)


def percent(part: float, whole: float) -> float:
    """Return 100 · part / whole; NaN where the whole is nothing."""
    return 100.0 * part / whole if whole else float("nan")


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> Errors:
    """Count the edit operations that turn the reference into the hypothesis.

    >>> count_errors(["a", "b", "c"], ["a", "x", "c", "d"])
    Errors(insertions=1, deletions=0, substitutions=1, reference_phones=3)
    """
    kinds = [operation.tag for operation in Levenshtein.editops(reference, hypothesis)]
    return Errors(
        insertions=kinds.count("insert"),
        deletions=kinds.count("delete"),
        substitutions=kinds.count("replace"),
        reference_phones=len(reference),
    )


def pool(errors: Sequence[Errors]) -> Errors:
    """Add up the errors of several utterances."""
    return sum(errors, Errors())


def bootstrap_interval(
    errors: Sequence[Errors],
    samples: int,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Confidence interval of the pooled error rate, by resampling utterances.

    Parameters
    ----------
    errors : sequence of Errors
        One for each utterance.
    samples : int
        Number of resampled test sets.
    rng : numpy.random.Generator
    confidence : float
        Share of the resampled rates inside the interval.

    Returns
    -------
    low, high : float
        Percentiles of the resampled rates, in percent. Both NaN without any reference phone; with
        a single utterance both are its rate, since nothing is known of the spread.
    """
    totals = np.array([item.total for item in errors], dtype=np.int64)
    lengths = np.array([item.reference_phones for item in errors], dtype=np.int64)
    if lengths.sum() == 0:
        return float("nan"), float("nan")
    rates = []
    for _ in range(samples):
        drawn = rng.integers(len(totals), size=len(totals))
        phones = lengths[drawn].sum()
        if phones:  # a draw of nothing but empty references has no rate
            rates.append(100.0 * totals[drawn].sum() / phones)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(rates, [tail, 100.0 - tail])
    return float(low), float(high)
