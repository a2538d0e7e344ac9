"""What a user points at, a folder or a manifest, as a list of recordings to be checked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wav2vec_u.corpus.audio import AUDIO_SUFFIXES
from wav2vec_u.corpus.rejections import Rejection
from wav2vec_u.corpus.rows import Row, iter_rows, recording_id
from wav2vec_u.runtime.errors import UserError

# Formats that libsndfile cannot decode: they are listed as rejected instead of passed over.
_OTHER_SUFFIXES = frozenset([".m4a", ".aac", ".wma", ".webm", ".mp4", ".amr", ".3gp", ".ape"])


@dataclass(frozen=True)
class Source:
    """A recording that is asked for, not yet opened.

    Attributes
    ----------
    id : str
        Unique name, see `corpus.rows.recording_id`.
    audio : Path
        Absolute path.
    split, speaker : str or None
        As the manifest says; a folder says nothing.
    """

    id: str
    audio: Path
    split: str | None = None
    speaker: str | None = None


def read_sources(audio: Path) -> tuple[list[Source], list[Rejection]]:
    """List the recordings of a folder (searched recursively, in sorted order) or of a manifest.

    Returns
    -------
    sources : list of Source
        In the order of the manifest, or sorted by path.
    rejections : list of Rejection
        Lines and names that cannot be used; of two recordings with one id the first is kept.

    Raises
    ------
    UserError
        If there is no such folder or manifest, or if it names no recording at all.
    """
    if not audio.exists():
        raise UserError(f"{audio}: there is no such folder or manifest; check the path")
    if audio.is_dir():
        found = _folder_sources(audio)
        nothing = f"{audio}: holds no recordings; give a folder with WAV, FLAC, OGG or MP3 files"
    elif audio.suffix.lower() in AUDIO_SUFFIXES:
        raise UserError(f"{audio}: is one recording; give the folder it is in, or a manifest")
    else:
        found = (_from_row(row) for row in iter_rows(audio))
        nothing = f"{audio}: names no recordings; give a manifest with a line for each"
    sources: dict[str, Source] = {}
    rejections: list[Rejection] = []
    for item in found:
        if isinstance(item, Rejection):
            rejections.append(item)
        elif item.id in sources:
            detail = f"the id {item.id} is already that of {sources[item.id].audio}"
            rejections.append(Rejection(str(item.audio), "duplicate", detail))
        else:
            sources[item.id] = item
    if not sources and not rejections:
        raise UserError(nothing)
    return list(sources.values()), rejections


def _from_row(row: Row | Rejection) -> Source | Rejection:
    if isinstance(row, Rejection):
        return row
    return Source(row.id, row.audio, row.split, row.speaker)


def _folder_sources(folder: Path) -> Iterator[Source | Rejection]:
    root = folder.absolute()
    refused: list[OSError] = []
    paths = sorted(_audio_files(root, refused), key=lambda path: path.as_posix())
    for path in paths:
        try:
            str(path).encode("utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            yield Rejection(shown, "bad_name", "the file name is not UTF-8; rename the file")
            continue
        yield Source(recording_id(path, root), path)
    for error in refused:
        yield Rejection(str(error.filename), "permission", error.strerror or "cannot be listed")


def _audio_files(root: Path, refused: list[OSError]) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()  # folders that were visited: links may lead in circles
    for folder, subfolders, names in os.walk(root, onerror=refused.append, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # In sorted order, so that of two links to one folder the same one is always followed.
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            path = Path(folder, name)
            # Dotfiles such as macOS's `._talk.wav` carry the suffix and no sound.
            if path.suffix.lower() in AUDIO_SUFFIXES | _OTHER_SUFFIXES and name[0] != ".":
                yield path
