"""Lines of a manifest, whatever its format.

Four formats are understood:

* JSON lines with the keys ``audio`` and, optionally, ``id``, ``split``, ``speaker``, ``text``;
* TSV with a header that names ``path`` (or ``audio``) or ``id``, and any of the other keys;
* fairseq's TSV: the root folder alone on the first line, then ``relative path<TAB>samples``;
* TSV of two columns without a header: path or id, and text.

Paths are relative to the folder of the manifest (fairseq: to the root on its first line).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, TextIO

from wav2vec_u.corpus.audio import AUDIO_SUFFIXES
from wav2vec_u.corpus.rejections import Rejection
from wav2vec_u.runtime.errors import UserError


@dataclass(frozen=True)
class Row:
    """One line of a manifest: the recording's id, its absolute path, and what is said of it."""

    id: str
    audio: Path
    split: str | None
    speaker: str | None
    text: str | None


def recording_id(audio: PurePath, root: PurePath) -> str:
    """Name a recording by its path below `root`, without the suffix of its sound format.

    >>> recording_id(PurePath("/data/a/talk.v2.wav"), PurePath("/data"))
    'a/talk.v2'
    """
    inside = audio.relative_to(root) if audio.is_relative_to(root) else audio
    name = inside.as_posix()
    return name[: -len(audio.suffix)] if audio.suffix.lower() in AUDIO_SUFFIXES else name


def iter_rows(manifest: Path) -> Iterator[Row | Rejection]:
    """Read a manifest line by line; lines that say nothing usable come as rejections.

    Raises
    ------
    UserError
        If the manifest is missing, unreadable, no UTF-8, or of no known format.
    """
    try:
        # utf-8-sig: spreadsheets like to put a byte order mark in front.
        with manifest.open(encoding="utf-8-sig") as file:
            if manifest.suffix.lower() in (".jsonl", ".json"):
                yield from _json_rows(file, manifest)
            else:
                yield from _tsv_rows(file, manifest)
    except UnicodeDecodeError as error:
        raise UserError(f"{manifest}: is not UTF-8 text; save the manifest as UTF-8") from error
    except FileNotFoundError as error:
        raise UserError(f"{manifest}: there is no such manifest; check the path") from error
    except OSError as error:
        raise UserError(f"{manifest}: cannot be read ({error.strerror})") from error


def _json_rows(file: TextIO, manifest: Path) -> Iterator[Row | Rejection]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        what = f"{manifest}:{number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            yield Rejection(what, "bad_line", f"is not JSON: {error}")
            continue
        if isinstance(values, dict):
            yield _row(values, manifest.parent, what)
        else:
            yield Rejection(what, "bad_line", "is not a JSON object")


def _tsv_rows(file: TextIO, manifest: Path) -> Iterator[Row | Rejection]:
    first = file.readline().rstrip("\n")
    if not first:
        return
    fields = first.split("\t")
    names = [name.strip().lower() for name in fields]
    root = manifest.parent
    lines: Iterator[tuple[int, str]] = enumerate(file, start=2)
    if len(fields) == 1 and not {"path", "audio"} & set(names):
        root, names = root / first, ["path", "samples"]
        if not root.is_dir():
            raise UserError(
                f"{manifest}: its first line is neither a folder nor a header; "
                "start it with `path<TAB>speaker<TAB>split<TAB>text`"
            )
    elif not {"path", "audio", "id"} & set(names):
        if len(fields) != 2:
            raise UserError(
                f"{manifest}: has {len(fields)} columns and no header; "
                "start it with `path<TAB>speaker<TAB>split<TAB>text`"
            )
        names = ["path", "text"]
        lines = chain([(1, first)], lines)
    for number, line in lines:
        # The last column takes what is left, so that a tab inside a transcript does no harm.
        values = line.rstrip("\n").split("\t", len(names) - 1)
        if any(values):
            yield _row(dict(zip(names, values, strict=False)), root, f"{manifest}:{number}")


def _row(values: dict[str, Any], root: Path, what: str) -> Row | Rejection:
    # Numbers are welcome as ids and speakers, 0 among them; empty strings say nothing.
    given = {
        key: str(value)
        for key, value in values.items()
        if isinstance(value, (str, int)) and value != ""
    }
    name = given.get("audio") or given.get("path") or given.get("id")
    if name is None:
        return Rejection(what, "bad_line", "names no recording (`audio` or `path`)")
    root = Path(os.path.normpath(root.absolute()))
    audio = Path(os.path.normpath(root / name))
    row = Row(
        id=given.get("id") or recording_id(audio, root),
        audio=audio,
        split=given.get("split"),
        speaker=given.get("speaker"),
        text=given.get("text"),
    )
    if not _can_be_written(row):
        return Rejection(what, "bad_name", "holds characters that are no valid Unicode")
    return row


def _can_be_written(row: Row) -> bool:
    parts = (row.id, str(row.audio), row.split or "", row.speaker or "", row.text or "")
    try:
        "".join(parts).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in str(row.audio)
