"""Words that were heard, as lines of ``hypotheses.jsonl``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.transcript import WordSpan
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl

FILE_NAME = "hypotheses.jsonl"


@dataclass(frozen=True)
class WordHypothesis:
    """The words of one utterance.

    Attributes
    ----------
    id, recording, split : str
        The utterance, the recording it is a piece of, and its split.
    spans : tuple of WordSpan
        In time order.
    phones : tuple of PhoneSpan
        What the words were said with.
    """

    id: str
    recording: str
    split: str
    spans: tuple[WordSpan, ...]
    phones: tuple[PhoneSpan, ...]

    def as_row(self) -> dict[str, object]:
        """One line of ``hypotheses.jsonl``; times are rounded to the millisecond."""
        return {
            "id": self.id,
            "recording": self.recording,
            "split": self.split,
            "words": [span.word for span in self.spans],
            "start_s": [round(span.start_s, 3) for span in self.spans],
            "end_s": [round(span.end_s, 3) for span in self.spans],
            "confidence": [round(span.confidence, 4) for span in self.spans],
            "known": [span.known for span in self.spans],
            "phones": [span.phone for span in self.phones],
            "phone_start_s": [round(span.start_s, 3) for span in self.phones],
            "phone_end_s": [round(span.end_s, 3) for span in self.phones],
        }


def read_word_hypotheses(folder: Path) -> Iterator[WordHypothesis]:
    """Read the hypotheses of a finished words stage; none if it made none.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return
    try:
        for row in read_jsonl(path):
            columns = (row[name] for name in ("words", "start_s", "end_s", "confidence", "known"))
            spans = zip(*columns, strict=True)
            phones = zip(row["phones"], row["phone_start_s"], row["phone_end_s"], strict=True)
            yield WordHypothesis(
                row["id"],
                row["recording"],
                row["split"],
                tuple(WordSpan(*span) for span in spans),
                tuple(PhoneSpan(*span) for span in phones),
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: holds no readable words; run the words stage again") from error
