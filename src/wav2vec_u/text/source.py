"""Lines of text from a file, a gzipped file, or a folder of them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from wav2vec_u.runtime.errors import UserError

_PATTERNS = ("*.txt", "*.txt.gz")


def find_files(path: Path) -> list[Path]:
    """Return the file itself, or the text files of a folder in the order of their names.

    Raises
    ------
    UserError
        If there is none.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise UserError(f"{path}: does not exist; give a text file or a folder of .txt files")
    files = sorted(file for pattern in _PATTERNS for file in path.rglob(pattern))
    if not files:
        raise UserError(f"{path}: holds no .txt or .txt.gz file")
    return files


def iter_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield every line with its place, such as ``("books.txt:12", "...")``.

    Raises
    ------
    UserError
        If a file is missing, cannot be read, or is not UTF-8.
    """
    for file in find_files(path):
        try:
            with _open(file) as lines:
                for number, line in enumerate(lines, start=1):
                    yield f"{file.name}:{number}", _decode(line, file, number)
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{file}: cannot be read ({reason})") from error


def _open(file: Path) -> BinaryIO:
    if file.suffix == ".gz":
        return cast(BinaryIO, gzip.open(file, "rb"))
    return file.open("rb")


def _decode(line: bytes, file: Path, number: int) -> str:
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}:{number}: is not UTF-8 text; convert the file, "
            "for example with `iconv -f ISO-8859-1 -t UTF-8`"
        ) from error
