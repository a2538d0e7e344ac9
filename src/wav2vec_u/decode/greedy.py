"""From the generator's outputs to phones with times, one decision a segment.

The paper calls this Viterbi decoding without a language model (section 4.4): every segment takes
its best phone, equal neighbours are one phone, and silence is no phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SILENCE_ID = 0  # `<SIL>` is the first line of phones.txt


@dataclass(frozen=True)
class PhoneSpan:
    """One recognised phone and its place in the original recording, in seconds."""

    phone: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Decoded:
    """The phones of one utterance.

    Attributes
    ----------
    spans : tuple of PhoneSpan
        Phones in time order, without silence.
    log_prob : float
        Sum over segments of the natural log-probability of the chosen label, silence included.
    """

    spans: tuple[PhoneSpan, ...]
    log_prob: float


def greedy(
    logits: npt.NDArray[np.floating],
    times: npt.NDArray[np.floating],
    phones: Sequence[str],
    mask: npt.NDArray[np.bool_] | None = None,
) -> Decoded:
    """Take the best label of every segment, merge equal neighbours, drop silence.

    A silence between two equal phones keeps them apart, because merging comes first.

    Parameters
    ----------
    logits : (S', V) float
        Unnormalised scores. S' may exceed S by the padding of an even kernel: the surplus is cut.
    times : (S, 2) float
        Start and end of each segment in the original recording, seconds.
    phones : sequence of str
        The V names; the one at `SILENCE_ID` is silence.
    mask : (S',) bool, optional
        False at padded positions, which are passed over.

    Raises
    ------
    ValueError
        If the logits are not finite or their width is not the number of phones.
    """
    if logits.ndim != 2 or logits.shape[1] != len(phones):
        raise ValueError(f"logits of shape {logits.shape} do not fit {len(phones)} phones")
    length = min(len(logits), len(times))
    scores = logits[:length].astype(np.float64)  # (S, V)
    kept_times = times[:length]
    if mask is not None:
        valid = mask[:length]
        scores, kept_times = scores[valid], kept_times[valid]
    if not np.isfinite(scores).all():
        raise ValueError("logits are not finite")
    if len(scores) == 0:
        return Decoded((), 0.0)

    labels = scores.argmax(axis=1)  # (S,)
    best = scores.max(axis=1)
    log_partition = best + np.log(np.exp(scores - best[:, None]).sum(axis=1))
    log_prob = float((best - log_partition).sum())

    run_starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
    run_ends = np.r_[run_starts[1:], len(labels)]  # exclusive
    spans = tuple(
        PhoneSpan(phones[labels[first]], float(kept_times[first, 0]), float(kept_times[end - 1, 1]))
        for first, end in zip(run_starts, run_ends, strict=True)
        if labels[first] != SILENCE_ID
    )
    return Decoded(spans, log_prob)
