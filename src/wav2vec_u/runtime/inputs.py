"""Fingerprints of what users give: files and folders outside the run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from wav2vec_u.runtime.errors import UserError


def hash_files(paths: Iterable[Path]) -> str:
    """Hash the names and the content of files, such as a text.

    Times are left out: a file that was copied or touched says what it said before.

    Raises
    ------
    UserError
        If a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode("utf-8", "surrogateescape") + b"\0")
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()[:24]


def stamp_files(paths: Iterable[Path]) -> str:
    """Hash the paths, sizes and times of files that are too many or too big to be read.

    A file that is missing counts too: it is noticed when it appears.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = path.stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            stamp = "unreadable"
        digest.update(f"{path}\0{stamp}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:24]
