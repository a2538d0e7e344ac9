"""Labelled speech, whether the labels are transcripts or guesses."""

from __future__ import annotations

from dataclasses import dataclass

from wav2vec_u.silence.spans import Span, speech_seconds


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
    """

    id: str
    audio: str
    spans: tuple[Span, ...]
    targets: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """Duration of the spans together."""
        return speech_seconds(self.spans)
