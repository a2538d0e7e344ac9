"""Recordings in chunks of limited size, for machines that are sent files and reach no others.

A chunk is a tar file of plain files: ``chunk.json`` (which of how many it is), ``manifest.tsv``
(path, speaker, split, sha256) and the recordings as they were. Equal recordings give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from campaign.recordings import MANIFEST_NAME, TRAIN_SPLIT, Clip
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_text

CHUNK_NAME = "chunk.json"
PARTS = "parts"
COLUMNS = ("path", "speaker", "split", "sha256")
_BLOCK = tarfile.BLOCKSIZE
# What a chunk holds besides the recordings and their lines: heads of two files, rounding of both,
# the number of the chunk, the head of the manifest, and the zeros at the end.
_OVERHEAD = 6 * _BLOCK + tarfile.RECORDSIZE


def pack(clips: Sequence[Clip], out: Path, max_bytes: int) -> list[Path]:
    """Write recordings into chunks.

    Parameters
    ----------
    clips : sequence of Clip
    out : Path
        Gets ``audio-01-of-03.tar``, ...
    max_bytes : int
        Size of a chunk, at most.

    Raises
    ------
    UserError
        If a recording alone is larger.
    """
    out.mkdir(parents=True, exist_ok=True)
    groups = _group(clips, max_bytes)
    paths = []
    for number, group in enumerate(groups, start=1):
        path = out / f"audio-{number:02d}-of-{len(groups):02d}.tar"
        _write_chunk(path, group, number, len(groups))
        paths.append(path)
    return paths


def unpack(chunks: Sequence[Path], out: Path) -> list[int]:
    """Join chunks in a folder, in any order and however often.

    Parameters
    ----------
    chunks : sequence of Path
    out : Path
        Gets the recordings, and ``manifest.tsv`` as soon as all chunks have been there.

    Returns
    -------
    list of int
        Numbers of the chunks that are still missing.

    Raises
    ------
    UserError
        If a chunk is damaged, or is not of the same packing as those before it.
    """
    for chunk in chunks:
        try:
            _read_chunk(chunk, out)
        except (tarfile.TarError, EOFError, KeyError, ValueError, OSError) as error:
            raise UserError(f"{chunk}: is damaged; fetch it again ({error})") from error
    parts = sorted((out / PARTS).glob("*.tsv"))
    if not parts:
        raise UserError(f"{out}: holds no chunks; name some")
    of = int(parts[0].stem.split("-of-")[1])
    have = {int(part.stem.split("-of-")[0]) for part in parts}
    missing = sorted(set(range(1, of + 1)) - have)
    if not missing:
        rows = [line for part in parts for line in part.read_text("utf-8").splitlines()[1:]]
        kept = [row.rsplit("\t", 1)[0] for row in ("\t".join(COLUMNS), *rows)]
        write_text(out / MANIFEST_NAME, "\n".join(kept) + "\n")
    return missing


def _group(clips: Sequence[Clip], max_bytes: int) -> list[list[Clip]]:
    groups: list[list[Clip]] = []
    room = 0
    for clip in clips:
        n_bytes = clip.audio.stat().st_size
        line = len("\t".join((clip.name, clip.speaker, TRAIN_SPLIT)).encode("utf-8")) + 66
        cost = _BLOCK + -(-n_bytes // _BLOCK) * _BLOCK + line
        if cost + _OVERHEAD > max_bytes:
            raise UserError(f"{clip.audio}: is larger than a chunk may be; raise --max-mib")
        if cost > room:
            groups.append([])
            room = max_bytes - _OVERHEAD
        groups[-1].append(clip)
        room -= cost
    return groups


def _write_chunk(path: Path, clips: Sequence[Clip], number: int, of: int) -> None:
    files = [clip.audio.read_bytes() for clip in clips]
    lines = ["\t".join(COLUMNS)]
    lines += [
        "\t".join((clip.name, clip.speaker, TRAIN_SPLIT, hashlib.sha256(content).hexdigest()))
        for clip, content in zip(clips, files, strict=True)
    ]
    temporary = path.with_name(path.name + ".tmp")
    with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, CHUNK_NAME, json.dumps({"number": number, "of": of}).encode())
        _add(tar, MANIFEST_NAME, ("\n".join(lines) + "\n").encode())
        for clip, content in zip(clips, files, strict=True):
            _add(tar, clip.name, content)
    temporary.replace(path)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # The defaults of TarInfo know nothing of clocks and owners.
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _read_chunk(chunk: Path, out: Path) -> None:
    with tarfile.open(chunk) as tar:
        place = json.loads(_member(tar, CHUNK_NAME))
        manifest = _member(tar, MANIFEST_NAME).decode("utf-8")
        part = out / PARTS / f"{int(place['number']):02d}-of-{int(place['of']):02d}.tsv"
        _check_packing(part, manifest, chunk)
        for line in manifest.splitlines()[1:]:
            row = dict(zip(COLUMNS, line.split("\t"), strict=True))
            name = PurePosixPath(row["path"])
            if name.is_absolute() or ".." in name.parts:
                raise ValueError(f"{name} leads out of the folder")
            content = _member(tar, row["path"])
            if hashlib.sha256(content).hexdigest() != row["sha256"]:
                raise ValueError(f"{name} has another sha256")
            _write_once(out / name, content)
    # Last, so that a part that is there has all its recordings.
    part.parent.mkdir(exist_ok=True)
    write_text(part, manifest)


def _check_packing(part: Path, manifest: str, chunk: Path) -> None:
    parts = list(part.parent.glob("*.tsv"))
    another_count = any(
        known.stem.split("-of-")[1] != part.stem.split("-of-")[1] for known in parts
    )
    if another_count or (part in parts and part.read_text("utf-8") != manifest):
        raise UserError(f"{chunk}: belongs to another packing; unpack it into another folder")


def _write_once(path: Path, content: bytes) -> None:
    # What is there already stays untouched: its time is part of what a training goes on from.
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    with file:
        return file.read()
