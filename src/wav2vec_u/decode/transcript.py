"""A transcript: what the recogniser heard in one audio file."""

from __future__ import annotations

from dataclasses import dataclass

from wav2vec_u.decode.greedy import PhoneSpan


@dataclass(frozen=True)
class TranscribedUtterance:
    """One stretch of speech and its phones, seconds of the original recording."""

    start_s: float
    end_s: float
    phones: tuple[PhoneSpan, ...]


@dataclass(frozen=True)
class Transcript:
    """The phones of one audio file.

    Attributes
    ----------
    audio : str
        The file.
    seconds : float
        Its length.
    utterances : tuple of TranscribedUtterance
        Stretches of speech in time order.
    """

    audio: str
    seconds: float
    utterances: tuple[TranscribedUtterance, ...]

    @property
    def phones(self) -> list[PhoneSpan]:
        """All phones of the file in time order."""
        return [span for utterance in self.utterances for span in utterance.phones]
