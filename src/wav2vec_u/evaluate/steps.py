"""What every step on the way to the final transcripts is worth, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wav2vec_u.evaluate.error_rate import Errors, bootstrap_interval, pool


@dataclass(frozen=True)
class Step:
    """The errors of the transcripts that one step gives.

    Attributes
    ----------
    name : str
        ``greedy`` (the matching's generator, arg-max), ``lm`` (read with the phone trigram),
        ``hmm`` (after self-training, read so too), ``words`` (the phones of the words found) or
        ``encoder`` (the same by the fine-tuned encoder).
    errors : sequence of Errors
        One for each utterance, the same ones in every step.
    """

    name: str
    errors: Sequence[Errors]


def measure_steps(
    steps: Sequence[Step], samples: int, rng: np.random.Generator
) -> list[dict[str, object]]:
    """Return error rate and interval of every step, and what it gains over the one before.

    The interval of a gain comes from resampling utterances once for both steps, so that what makes
    utterances easy or hard for both does not widen it.

    Parameters
    ----------
    steps : sequence of Step
        In order.
    samples : int
        Resampled test sets.
    rng : numpy.random.Generator

    Returns
    -------
    list of dict
        ``step``, ``per``, ``low``, ``high``, and from the second on ``gain``, ``gain_low``,
        ``gain_high``, in percentage points.
    """
    rows: list[dict[str, object]] = []
    for place, step in enumerate(steps):
        low, high = bootstrap_interval(step.errors, samples, rng)
        row: dict[str, object] = {
            "step": step.name,
            "per": round(pool(step.errors).rate, 3),
            "low": round(low, 3),
            "high": round(high, 3),
        }
        if place > 0:
            before = steps[place - 1]
            gain_low, gain_high = _gain_interval(before.errors, step.errors, samples, rng)
            gain = pool(before.errors).rate - pool(step.errors).rate
            row |= {
                "gain": round(gain, 3),
                "gain_low": round(gain_low, 3),
                "gain_high": round(gain_high, 3),
            }
        rows.append(row)
    return rows


def _gain_interval(
    before: Sequence[Errors], after: Sequence[Errors], samples: int, rng: np.random.Generator
) -> tuple[float, float]:
    fewer = np.array([old.total - new.total for old, new in zip(before, after, strict=True)])
    lengths = np.array([item.reference_phones for item in before])
    if lengths.sum() == 0:
        return float("nan"), float("nan")
    drawn = rng.integers(len(fewer), size=(samples, len(fewer)))
    phones = lengths[drawn].sum(axis=1)
    some = phones > 0  # a draw of nothing but empty references has no rate
    gains = 100.0 * fewer[drawn].sum(axis=1)[some] / phones[some]
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)
