"""The encoder that comes with the package, and how an encoder of our own is named."""

from __future__ import annotations

from pathlib import Path

from wav2vec_u.encoder.checkpoint import is_encoder

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
