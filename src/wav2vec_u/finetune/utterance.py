"""Labelled speech, whether the labels are transcripts or guesses."""

from __future__ import annotations

from dataclasses import dataclass

from wav2vec_u.silence.spans import Span, speech_seconds

UNKNOWN = -1  # instead of a unit: what is said there is not known


@dataclass(frozen=True)
class TimedUnit:
    """A unit and its place in the waveform.

    Attributes
    ----------
    unit : int
        Id of `units.Units`, or `UNKNOWN`.
    start_s, end_s : float
        Seconds of the spans put one behind the other.
    """

    unit: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class LabelledUtterance:
    """A stretch of a recording, and what is said in it.

    Attributes
    ----------
    id : str
        Unique.
    audio : str
        Path of the recording.
    spans : tuple of Span
        Seconds of the recording that are put one behind the other; one span for a stretch kept
        whole.
    targets : tuple of int
        Ids of `units.Units`.
    timed : tuple of TimedUnit or None
        Where the targets are said, if that is known; between them are pauses.
    """

    id: str
    audio: str
    spans: tuple[Span, ...]
    targets: tuple[int, ...]
    timed: tuple[TimedUnit, ...] | None = None

    @property
    def seconds(self) -> float:
        """Duration of the spans together."""
        return speech_seconds(self.spans)
