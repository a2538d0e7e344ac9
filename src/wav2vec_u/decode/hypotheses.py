"""Hypotheses: what the recogniser says about each utterance, as lines of ``hypotheses.jsonl``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl

FILE_NAME = "hypotheses.jsonl"
_PIECE = re.compile(r"#\d{3,}$")  # the silence stage names the pieces of a recording so


@dataclass(frozen=True)
class Hypothesis:
    """The phones of one utterance, or of one recording after `join_recordings`.

    Attributes
    ----------
    id, recording, split : str
        The utterance, the recording it is a piece of, and its split.
    spans : tuple of PhoneSpan
        Phones in time order, seconds of the original recording.
    log_prob : float
        Natural log-probability of the labels chosen, summed over segments.
    """

    id: str
    recording: str
    split: str
    spans: tuple[PhoneSpan, ...]
    log_prob: float

    @property
    def phones(self) -> list[str]:
        """The phones alone."""
        return [span.phone for span in self.spans]

    def as_row(self) -> dict[str, object]:
        """One line of ``hypotheses.jsonl``; times are rounded to the millisecond."""
        return {
            "id": self.id,
            "recording": self.recording,
            "split": self.split,
            "phones": self.phones,
            "start_s": [round(span.start_s, 3) for span in self.spans],
            "end_s": [round(span.end_s, 3) for span in self.spans],
            "log_prob": round(self.log_prob, 4),
        }


def recording_of(utterance_id: str) -> str:
    """Name the recording an utterance was cut from.

    >>> recording_of("village/tape 3#002"), recording_of("village/tape 3")
    ('village/tape 3', 'village/tape 3')
    """
    return _PIECE.sub("", utterance_id)


def time_order(utterance_id: str) -> tuple[int, str]:
    """Return a key that sorts the pieces of one recording by time.

    Stages that work in batches sorted by length leave them in another order.

    >>> sorted(["tape#1000", "tape#002", "tape#010"], key=time_order)
    ['tape#002', 'tape#010', 'tape#1000']
    """
    return len(utterance_id), utterance_id


def read_hypotheses(folder: Path) -> Iterator[Hypothesis]:
    """Yield the hypotheses of a finished decode stage, one at a time.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    path = folder / FILE_NAME
    try:
        for row in read_jsonl(path):
            yield Hypothesis(
                id=row["id"],
                recording=row["recording"],
                split=row["split"],
                spans=tuple(
                    PhoneSpan(phone, start, end)
                    for phone, start, end in zip(
                        row["phones"], row["start_s"], row["end_s"], strict=True
                    )
                ),
                log_prob=row["log_prob"],
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: holds no readable hypotheses; run the decode stage again"
        ) from error


def join_recordings(
    hypotheses: Iterable[Hypothesis], recordings: Collection[str] = frozenset()
) -> dict[str, Hypothesis]:
    """Put the pieces of each recording back together, in time order.

    Parameters
    ----------
    hypotheses : iterable of Hypothesis
    recordings : collection of str
        Ids of the corpus. A hypothesis with one of them is no piece, even if it ends like one
        (a file named ``take#001.wav``).

    Returns
    -------
    dict of str to Hypothesis
        By recording id, in the order in which recordings first appear.
    """
    pieces: dict[str, list[Hypothesis]] = {}
    for hypothesis in hypotheses:
        whole = hypothesis.id in recordings
        recording = hypothesis.id if whole else hypothesis.recording
        pieces.setdefault(recording, []).append(hypothesis)
    joined = {}
    for recording, group in pieces.items():
        # The number after "#" grows with time; it also orders pieces in which no phone was found.
        group.sort(key=lambda piece: time_order(piece.id))
        joined[recording] = Hypothesis(
            id=recording,
            recording=recording,
            split=group[0].split,
            spans=tuple(span for piece in group for span in piece.spans),
            log_prob=sum(piece.log_prob for piece in group),
        )
    return joined
