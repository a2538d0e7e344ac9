"""Which lines of a text a synthetic voice can read as they stand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.source import iter_lines

MIN_LETTERS = 20  # of a line that is worth reading


def can_be_read(line: str) -> bool:
    """Tell whether a line is long enough and holds no figures or marks that voices spell out.

    >>> can_be_read("the ship came in at the break of dawn")
    True
    >>> can_be_read("the 12 ships came in at the break of dawn")
    False
    """
    marks = any(character.isnumeric() or character in "_[]*" for character in line)
    return not marks and sum(character.isalpha() for character in line) >= MIN_LETTERS


def sample_lines(path: Path, most: int, rng: np.random.Generator) -> list[str]:
    """Draw lines that can be read, without holding the text.

    Vitter (1985), *Random sampling with a reservoir*, algorithm R.

    Parameters
    ----------
    path : Path
        Text file, or folder of text files.
    most : int
        Lines to draw; a text with fewer is kept whole and in order.
    rng : numpy.random.Generator

    Raises
    ------
    UserError
        If the text is missing, or no line of it can be read.
    """
    kept: list[str] = []
    seen = 0
    for _, line in iter_lines(path):
        if not can_be_read(line):
            continue
        seen += 1
        if len(kept) < most:
            kept.append(line)
        elif (slot := int(rng.integers(seen))) < most:
            kept[slot] = line
    if not kept:
        raise UserError(f"{path}: has no line that can be read aloud; give more text")
    return kept
