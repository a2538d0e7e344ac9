"""Artefacts: the folders that stages leave behind.

A stage works in ``<name>.partial`` beside its final place. When all is written, ``stage.json`` is
added and the folder is renamed, so that a folder under its final name is always whole. A partial
folder whose fingerprint still fits may be continued by stages that can resume inside themselves.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from wav2vec_u.runtime.disk import explain_disk_errors
from wav2vec_u.runtime.files import fsync_folder, write_json
from wav2vec_u.runtime.memory import peak_rss_mb

SCHEMA = 3  # raise when the layout of any artefact changes
RECORD_NAME = "stage.json"
PARTIAL_NAME = "partial.json"


@dataclass(frozen=True)
class StageRecord:
    """What ``stage.json`` holds: where an artefact came from and what it cost.

    `files` are the artefact's files and their sizes in bytes, by which one that was cut short or
    taken away is noticed. `made` is the time it was finished, in UTC, by which two makings of the
    same settings are told apart.
    """

    stage: str
    schema: int
    fingerprint: str
    config: dict[str, Any]
    inputs: dict[str, str]
    counts: dict[str, Any]
    seconds: float
    peak_rss_mb: float
    versions: dict[str, str]
    files: dict[str, int] = field(default_factory=dict)
    made: str = ""


@dataclass
class Work:
    """The folder that a running stage may write to.

    Attributes
    ----------
    folder : Path
        The partial folder; it gets its final name when the stage ends without an error.
    resumed : bool
        True if the folder holds the checkpoints of an earlier, interrupted run of the same work.
    counts : dict
        Figures for ``stage.json`` and ``metrics.json``; the stage fills it in.
    """

    folder: Path
    resumed: bool = False
    counts: dict[str, Any] = field(default_factory=dict)


def fingerprint(**parts: Any) -> str:
    """Hash settings and inputs into a short hexadecimal digest.

    >>> fingerprint(a=1, b="x") == fingerprint(b="x", a=1)
    True
    """
    plain = {
        key: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for key, value in parts.items()
    }
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:24]


def read_record(folder: Path) -> StageRecord | None:
    """Read ``stage.json``; None if the artefact is missing or its record cannot be read."""
    try:
        return StageRecord(**json.loads((folder / RECORD_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_current(folder: Path, expected: str) -> bool:
    """Tell whether the artefact is whole and was made from the expected config and inputs."""
    record = read_record(folder)
    return (
        record is not None
        and record.schema == SCHEMA
        and record.fingerprint == expected
        and record.files.items() <= _file_sizes(folder).items()
    )


def identity(folder: Path) -> str:
    """Return a digest of one making of an artefact, for the fingerprints of what is made of it.

    It is that of ``stage.json``: making an artefact anew, from the same settings or others, makes
    what was learned from the old one stale. Empty if there is no readable artefact.
    """
    if read_record(folder) is None:
        return ""
    return hashlib.sha256((folder / RECORD_NAME).read_bytes()).hexdigest()[:24]


def partial_path(final: Path) -> Path:
    """Return where an artefact is written until it is whole.

    >>> partial_path(Path("run/segments")).name
    'segments.partial'
    """
    return final.with_name(final.name + ".partial")


@contextmanager
def create(
    final: Path,
    *,
    stage: str,
    expected: str,
    config: BaseModel,
    inputs: dict[str, str],
    resumable: bool = False,
) -> Iterator[Work]:
    """Make an artefact: write beside its place, rename when whole.

    Parameters
    ----------
    final : Path
        Where the artefact will stand; what stood there is replaced at the end, not before.
    stage : str
        Name of the stage.
    expected : str
        `fingerprint` of the config, the inputs and the schema.
    config : BaseModel
        The stage's settings, kept in the record.
    inputs : dict of str to str
        Names and fingerprints of what the stage reads, kept in the record.
    resumable : bool
        Keep what an interrupted run of the same fingerprint left; otherwise start afresh.

    Raises
    ------
    UserError
        If the disk is full or the folder cannot be written. The partial folder stays for a
        resumable stage, and the artefact that stood at `final` is untouched.
    """
    partial = partial_path(final)
    started = time.monotonic()
    with explain_disk_errors(final.parent):
        work = _open_partial(partial, stage, expected, resumable)
        yield work
        record = StageRecord(
            stage=stage,
            schema=SCHEMA,
            fingerprint=expected,
            config=config.model_dump(mode="json"),
            inputs=inputs,
            counts=work.counts,
            seconds=round(time.monotonic() - started, 3),
            peak_rss_mb=round(peak_rss_mb(), 1),
            versions=_versions(),
            files=_file_sizes(partial),
            made=datetime.now(UTC).isoformat(),
        )
        write_json(partial / RECORD_NAME, asdict(record))
        fsync_folder(partial)
        _replace(partial, final)
        # Not before: were the run killed in between, a stage that can resume would lose its work.
        (final / PARTIAL_NAME).unlink(missing_ok=True)


def _open_partial(partial: Path, stage: str, expected: str, resumable: bool) -> Work:
    resumed = False
    if partial.exists():
        try:
            marker = json.loads((partial / PARTIAL_NAME).read_text(encoding="utf-8"))
            resumed = resumable and marker == {"stage": stage, "fingerprint": expected}
        except (OSError, ValueError):
            resumed = False
        if not resumed:
            shutil.rmtree(partial)
    if not resumed:
        partial.mkdir(parents=True)
        write_json(partial / PARTIAL_NAME, {"stage": stage, "fingerprint": expected})
    return Work(partial, resumed=resumed)


def _replace(partial: Path, final: Path) -> None:
    # A folder cannot be renamed over a non-empty one: move the old one aside first. A kill between
    # the two renames leaves no artefact under the final name, and the stage simply runs again.
    old = final.with_name(final.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    fsync_folder(final.parent)
    if old.exists():
        shutil.rmtree(old)


def _file_sizes(folder: Path) -> dict[str, int]:
    """Sizes in bytes of what the stage itself wrote, by path inside the artefact."""
    own = (folder / RECORD_NAME, folder / PARTIAL_NAME)
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in own
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in ("wav2vec-u", "torch", "numpy", "transformers"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
