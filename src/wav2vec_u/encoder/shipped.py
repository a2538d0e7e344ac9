"""The encoder that comes with the package, and how an encoder of our own is named."""

from __future__ import annotations

from pathlib import Path

from wav2vec_u.encoder.checkpoint import DESCRIPTION, WEIGHTS, is_encoder
from wav2vec_u.runtime.inputs import hash_files, stamp_files

SHIPPED = "base"


def find_encoder(name: str) -> Path | None:
    """Return the folder of an encoder of our own; None if the name is of another kind.

    ``base`` is always the one that ships; a folder of that name can be given as ``./base``.

    Parameters
    ----------
    name : str
        ``base``, for the one that ships, or a folder that `checkpoint.save_encoder` wrote.
    """
    if name == SHIPPED:
        return Path(__file__).parent / SHIPPED
    return Path(name) if is_encoder(Path(name)) else None


def identify_encoder(name: str) -> str:
    """Tell encoders apart, so that all that was made with one is made anew when it changes.

    One of our own is known by its content, wherever it is installed; a published checkpoint in a
    folder, which may be of gigabytes, by the sizes and times of its files.

    Parameters
    ----------
    name : str
        As for `find_encoder`, or a checkpoint of the wav2vec 2.0 family.
    """
    own = find_encoder(name)
    if own is not None:
        return hash_files([own / DESCRIPTION, own / WEIGHTS])
    if not Path(name).is_dir():
        return name
    return stamp_files(sorted(path for path in Path(name).rglob("*") if path.is_file()))
