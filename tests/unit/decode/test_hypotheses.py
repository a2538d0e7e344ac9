"""Hypotheses round trip through their file, and pieces find together again."""

from __future__ import annotations

from pathlib import Path

import pytest

from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.hypotheses import (
    FILE_NAME,
    Hypothesis,
    join_recordings,
    read_hypotheses,
    recording_of,
)
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_jsonl


def piece(name: str, *phones: str, at: float = 0.0) -> Hypothesis:
    spans = tuple(PhoneSpan(p, at + i, at + i + 0.5) for i, p in enumerate(phones))
    return Hypothesis(name, recording_of(name), "test", spans, -1.5)


def test_round_trip(tmp_path: Path) -> None:
    written = [piece('dir/ä "quoted" 🎤#001', "a", "tʃ"), piece("empty")]
    write_jsonl(tmp_path / FILE_NAME, (item.as_row() for item in written))
    assert list(read_hypotheses(tmp_path)) == written


@pytest.mark.parametrize(
    "content",
    [
        "{not json\n",
        '{"id": "a"}\n',
        "[1]\n",
        '{"id":"a","recording":"a","split":"t","phones":["a"],"start_s":[],"end_s":[],'
        '"log_prob":0}\n',
    ],
)
def test_damaged_file_is_a_users_error(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(UserError, match="run the decode stage again"):
        list(read_hypotheses(tmp_path))


def test_missing_file_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hypotheses"):
        list(read_hypotheses(tmp_path))


def test_pieces_are_joined_in_time_order_whatever_their_order() -> None:
    pieces = [
        piece("tape#1000", "d", at=90),
        piece("other", "x"),
        piece("tape#002", "b", at=20),
        piece("tape#999", "c", at=80),
        piece("tape#001", "a"),
    ]
    joined = join_recordings(pieces)
    assert joined["tape"].phones == ["a", "b", "c", "d"]
    assert joined["tape"].log_prob == pytest.approx(-6.0)
    assert joined["other"].phones == ["x"]
    assert list(joined) == ["tape", "other"]


def test_recordings_named_like_pieces_stay_apart() -> None:
    takes = [piece("take#001", "a"), piece("take#002#001", "b"), piece("take#002#002", "c", at=9)]
    joined = join_recordings(takes, {"take#001", "take#002"})
    assert {name: item.phones for name, item in joined.items()} == {
        "take#001": ["a"],
        "take#002": ["b", "c"],
    }
