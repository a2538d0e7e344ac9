"""A transcript: what the recogniser heard in one audio file."""

from __future__ import annotations

from dataclasses import dataclass

from wav2vec_u.decode.greedy import PhoneSpan


@dataclass(frozen=True)
class WordSpan:
    """One recognised word and its place in the original recording, in seconds.

    Attributes
    ----------
    word : str
    start_s, end_s : float
    confidence : float
        Probability that it was said there, given all words that may have been said: from 0 to 1.
    known : bool
        False where the text does not hold the word: its spelling is guessed from its phones.
    """

    word: str
    start_s: float
    end_s: float
    confidence: float
    known: bool = True


@dataclass(frozen=True)
class Alternative:
    """Other words that may have been said instead.

    Attributes
    ----------
    words : tuple of WordSpan
    behind : float
        How much less likely they are than the best words, nats.
    """

    words: tuple[WordSpan, ...]
    behind: float


@dataclass(frozen=True)
class TranscribedUtterance:
    """One stretch of speech, its phones and its words, seconds of the original recording.

    There are no words where the run decodes none, and alternatives only where they are asked for.
    """

    start_s: float
    end_s: float
    phones: tuple[PhoneSpan, ...]
    words: tuple[WordSpan, ...] = ()
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """The phones and words of one audio file.

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

    @property
    def words(self) -> list[WordSpan]:
        """All words of the file in time order."""
        return [span for utterance in self.utterances for span in utterance.words]
