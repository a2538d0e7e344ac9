"""Reading lines of text."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.source import iter_lines


def test_file_folder_and_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("eins\r\nzwei ü\n".encode())
    (tmp_path / "sub").mkdir()
    with gzip.open(tmp_path / "sub" / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write("drei\n")
    (tmp_path / "notes.md").write_text("not this", encoding="utf-8")
    assert list(iter_lines(tmp_path / "a.txt")) == [("a.txt:1", "eins"), ("a.txt:2", "zwei ü")]
    assert [line for _, line in iter_lines(tmp_path)] == ["eins", "zwei ü", "drei"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin.txt", "gut\nschön".encode("latin-1"), r"latin.txt:2: is not UTF-8.*iconv"),
        ("utf16.txt", "hello".encode("utf-16"), r"utf16.txt:1: is not UTF-8"),
        ("fake.txt.gz", b"plain text", r"fake.txt.gz: cannot be read"),
        (
            "short.txt.gz",
            gzip.compress(b"hello world\n" * 99, mtime=0)[:-12],
            r"short.txt.gz: cannot be read",
        ),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(iter_lines(tmp_path / name))


def test_missing_file_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        list(iter_lines(tmp_path / "absent.txt"))
    with pytest.raises(UserError, match="holds no "):
        list(iter_lines(tmp_path))
