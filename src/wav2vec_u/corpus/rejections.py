"""Items that a stage leaves out: listed one by one, counted by reason, never a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from wav2vec_u.runtime.files import write_jsonl

REJECTED_NAME = "rejected.jsonl"


@dataclass(frozen=True)
class Rejection:
    """One line of ``rejected.jsonl``.

    Attributes
    ----------
    what : str
        Path, id or ``manifest:line`` of the item.
    reason : str
        One word that figures are counted by.
    detail : str
        What was found, in words.
    """

    what: str
    reason: str
    detail: str


def write_rejections(folder: Path, rejections: Iterable[Rejection]) -> None:
    """Write ``rejected.jsonl`` into a stage's folder."""
    write_jsonl(folder / REJECTED_NAME, (asdict(rejection) for rejection in rejections))


def count_by_reason(rejections: Iterable[Rejection]) -> dict[str, int]:
    """Count rejections by reason, the most frequent first.

    >>> count_by_reason([Rejection("a.wav", "silent", ""), Rejection("b.wav", "silent", "")])
    {'silent': 2}
    """
    return dict(Counter(rejection.reason for rejection in rejections).most_common())


def summary(rejections: Iterable[Rejection]) -> str:
    """Say in a few words what was rejected, for one-line messages.

    >>> summary([Rejection("a.wav", "silent", ""), Rejection("b.wav", "empty", "")])
    '1 silent, 1 empty'
    """
    return ", ".join(f"{count} {reason}" for reason, count in count_by_reason(rejections).items())
