"""Spans of speech: from frames to spans, from spans to utterances, and back to original time.

A span is a pair ``(start, end)`` of seconds in the original recording. Lists of spans are sorted
and do not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.config import SAMPLE_RATE

FRAMES_PER_SECOND = 100  # of the voice activity decisions (rVAD's shift of 10 ms)
_ROUNDING = 1e-6  # seconds: a sixtieth of a sample, far above the rounding of sums of seconds

Span = tuple[float, float]
Seconds = NDArray[np.float64]


def mask_to_spans(mask: NDArray[np.bool_], seconds: float) -> list[Span]:
    """Turn decisions into spans.

    Parameters
    ----------
    mask : ndarray of bool, shape (T,)
        One decision for each 10 ms; frame t stands for [t, t + 1) / 100 s.
    seconds : float
        Duration of the recording: the last span never ends behind it.

    >>> mask_to_spans(np.array([False, True, True, False, True]), 0.045)
    [(0.01, 0.03), (0.04, 0.045)]
    """
    padded = np.concatenate(([False], mask, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)  # (S, 2): first, one past last
    return [
        (int(begin) / FRAMES_PER_SECOND, min(int(end) / FRAMES_PER_SECOND, seconds))
        for begin, end in edges
    ]


def clean_spans(spans: Sequence[Span], merge_gap_s: float, min_speech_s: float) -> list[Span]:
    """Close pauses shorter than `merge_gap_s`, then drop spans shorter than `min_speech_s`.

    >>> clean_spans([(0.0, 0.5), (0.55, 1.0), (3.0, 3.05)], 0.1, 0.1)
    [(0.0, 1.0)]
    """
    merged: list[Span] = []
    for start, end in spans:
        if merged and (start <= merged[-1][1] or _less(start - merged[-1][1], merge_gap_s)):
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return [(start, end) for start, end in merged if not _less(end - start, min_speech_s)]


def widen_spans(spans: Sequence[Span], margin_s: float, seconds: float) -> list[Span]:
    """Let every span begin and end `margin_s` further out, and join those that meet.

    Parameters
    ----------
    spans : sequence of Span
    margin_s : float
        Seconds.
    seconds : float
        Duration of the recording, which no span leaves.

    >>> widen_spans([(0.5, 1.0), (1.5, 2.0), (4.0, 4.5)], 0.25, 4.6)
    [(0.25, 2.25), (3.75, 4.6)]
    """
    wide = [(max(0.0, start - margin_s), min(seconds, end + margin_s)) for start, end in spans]
    return clean_spans(wide, 0.0, 0.0)


def speech_seconds(spans: Sequence[Span]) -> float:
    """Sum of the spans' lengths in seconds."""
    return math.fsum(end - start for start, end in spans)


def split_spans(
    spans: Sequence[Span], max_seconds: float, *, count_pauses: bool
) -> list[list[Span]]:
    """Share out the spans of a long recording among utterances, cutting at the longest pauses.

    A recording that needs n utterances at least is cut near its nth part, at the longest pause
    between half of that and `max_seconds`; then the rest is treated alike. Where speech goes on
    without a pause it is cut hard, at the nth part. Every utterance gets at least a quarter of
    `max_seconds` (pauses counted or not, as asked), so none is a useless scrap.

    Parameters
    ----------
    spans : sequence of Span
        Speech of one recording, at least one span.
    max_seconds : float
        Longest utterance.
    count_pauses : bool
        Whether the pauses inside an utterance count (they do where its whole stretch is encoded).

    Returns
    -------
    list of list of Span
        The spans of each utterance, in order; together they are exactly the speech given.
    """
    pieces: list[list[Span]] = []
    rest = list(spans)
    while True:
        bounds = np.asarray(rest, dtype=np.float64)  # (S, 2)
        positions = _positions(bounds, count_pauses)  # (S, 2)
        total = float(positions[-1, 1])
        if not _less(max_seconds, total):
            pieces.append(rest)
            return pieces
        target = total / math.ceil(total / max_seconds - 1e-9)
        lowest, highest = target / 2, min(max_seconds, total - target / 2)
        pause_from, pause_to = positions[:-1, 1], positions[1:, 0]
        # The tolerance keeps a pause at the very limit from being missed by a rounding, and a hard
        # cut from leaving a sliver beside it.
        near = np.flatnonzero((pause_from <= highest + _ROUNDING) & (pause_to >= lowest))
        if len(near):
            lengths = bounds[near + 1, 0] - bounds[near, 1]
            cut = int(near[np.argmax(lengths)]) + 1
            pieces.append(rest[:cut])
            rest = rest[cut:]
        else:
            index = int(np.searchsorted(positions[:, 1], target))  # the span that holds the target
            start, end = rest[index]
            moment = start + target - float(positions[index, 0])
            pieces.append([*rest[:index], (start, moment)])
            rest = [(moment, end), *rest[index + 1 :]]


def sample_bounds(spans: Sequence[Span]) -> NDArray[np.int64]:
    """Round spans to samples at 16 kHz: shape (S, 2), first sample and one past the last."""
    return np.rint(np.asarray(spans, dtype=np.float64) * SAMPLE_RATE).astype(np.int64)


class SpanMap:
    """The way between time in a trimmed waveform and time in the original recording.

    The trimmed waveform is the spans' samples put one behind the other, so the map is made of the
    spans rounded to samples.

    Parameters
    ----------
    spans : sequence of Span
        What was kept, at least one span; a single span stands for a stretch kept whole.

    >>> kept = SpanMap([(1.0, 2.0), (5.0, 6.0)])
    >>> kept.to_original(np.array([0.5, 1.5]))
    array([1.5, 5.5])
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        bounds = sample_bounds(spans) / SAMPLE_RATE  # (S, 2) seconds
        self._starts = bounds[:, 0]
        self._offsets = np.concatenate(([0.0], np.cumsum(bounds[:, 1] - bounds[:, 0])))  # (S + 1,)

    @property
    def trimmed_seconds(self) -> float:
        """Duration of the trimmed waveform."""
        return float(self._offsets[-1])

    def to_original(self, trimmed_seconds: Seconds) -> Seconds:
        """Map times of the trimmed waveform to the original recording.

        A time on a seam belongs to the span behind it; times outside the waveform go on from its
        first or last span.
        """
        times = np.asarray(trimmed_seconds, dtype=np.float64)
        # Half a sample of tolerance: a seam that was computed in another order is still the seam.
        index = np.searchsorted(self._offsets, times + 0.5 / SAMPLE_RATE, side="right") - 1
        index = np.clip(index, 0, len(self._starts) - 1)
        return np.asarray(self._starts[index] + times - self._offsets[index])

    def to_trimmed(self, original_seconds: Seconds) -> Seconds:
        """Map times of the original recording to the trimmed waveform.

        A time in a pause is mapped to the seam that the pause left.
        """
        times = np.asarray(original_seconds, dtype=np.float64)
        index = np.searchsorted(self._starts, times + 0.5 / SAMPLE_RATE, side="right") - 1
        index = np.clip(index, 0, len(self._starts) - 1)
        inside = np.maximum(times - self._starts[index], 0.0)
        return np.asarray(np.minimum(self._offsets[index] + inside, self._offsets[index + 1]))


def frame_is_speech(times_s: Seconds, spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Tell which frames lie in speech.

    Parameters
    ----------
    times_s : ndarray of float64, shape (T,)
        One time for each frame in the original recording, best its centre, seconds.
    spans : sequence of Span
        Speech; a span holds its start and not its end.

    Returns
    -------
    ndarray of bool, shape (T,)
    """
    times = np.asarray(times_s, dtype=np.float64)
    if not spans:
        return np.zeros(times.shape, dtype=np.bool_)
    starts, ends = np.asarray(spans, dtype=np.float64).T
    index = np.searchsorted(starts, times, side="right") - 1
    return np.asarray((index >= 0) & (times < ends[np.maximum(index, 0)]))


def _positions(bounds: Seconds, count_pauses: bool) -> Seconds:
    """Where spans begin and end, measured from the first: with the pauses or without, (S, 2)."""
    if count_pauses:
        return np.asarray(bounds - bounds[0, 0])
    ends = np.cumsum(bounds[:, 1] - bounds[:, 0])
    return np.stack([np.concatenate(([0.0], ends[:-1])), ends], axis=1)


def _less(left: float, right: float) -> bool:
    """Compare times as less, by more than the rounding of sums of seconds."""
    return left < right - _ROUNDING
