"""The weights of an encoder in pieces of limited size, and one file again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from wav2vec_u.encoder.checkpoint import DESCRIPTION, WEIGHTS, load_network
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_text

INDEX_NAME = "shards.json"


def split(encoder: Path, out: Path, max_bytes: int) -> list[Path]:
    """Cut the weights (half precision, as they are saved) into shards.

    Parameters
    ----------
    encoder : Path
        Folder of an encoder of our own.
    out : Path
        Gets ``encoder.safetensors.1-of-3``, ... and ``shards.json``: the encoder's description, and
        the sha256 of every shard and of the whole.
    max_bytes : int
        Size of a shard, at most.

    Raises
    ------
    UserError
        If the encoder is not whole.
    """
    load_network(encoder)
    weights = (encoder / WEIGHTS).read_bytes()
    out.mkdir(parents=True, exist_ok=True)
    pieces = [weights[at : at + max_bytes] for at in range(0, len(weights), max_bytes)]
    paths = []
    for number, piece in enumerate(pieces, start=1):
        paths.append(out / f"{WEIGHTS}.{number}-of-{len(pieces)}")
        paths[-1].write_bytes(piece)
    index = {
        "description": (encoder / DESCRIPTION).read_text(encoding="utf-8"),
        "sha256": _hash(weights),
        "shards": [
            {"name": path.name, "sha256": _hash(piece)}
            for path, piece in zip(paths, pieces, strict=True)
        ],
    }
    write_json(out / INDEX_NAME, index)
    return paths


def join(folder: Path, out: Path) -> None:
    """Put the shards of a folder together as an encoder.

    Raises
    ------
    UserError
        If a shard is missing or damaged; nothing is written then.
    """
    try:
        index = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
        description, whole = str(index["description"]), str(index["sha256"])
        shards = [(folder / str(item["name"]), str(item["sha256"])) for item in index["shards"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / INDEX_NAME}: cannot be read; fetch it again") from error
    pieces = []
    for path, expected in shards:
        try:
            piece = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: is missing; fetch it ({error.strerror})") from error
        if _hash(piece) != expected:
            raise UserError(f"{path}: has another sha256 than {INDEX_NAME} says; fetch it again")
        pieces.append(piece)
    weights = b"".join(pieces)
    if _hash(weights) != whole:
        raise UserError(f"{folder / INDEX_NAME}: lists shards that do not make the whole file")
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / (WEIGHTS + ".tmp")
    temporary.write_bytes(weights)
    temporary.replace(out / WEIGHTS)
    write_text(out / DESCRIPTION, description)
    load_network(out)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
