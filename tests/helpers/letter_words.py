"""A decoding graph whose phones are letters, made from a few lines of text by the graph stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.config import GraphConfig, TextConfig
from wav2vec_u.graph import stage as graph_stage
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.text import stage as text_stage
from wav2vec_u.text.corpus import PhoneText

# `bag` ends and begins with the same letter as `gab` in turn; `be` begins `bebe`.
LINES = ["abe gab bag", "gab abe be", "bag abe gab", "abe bag bebe", "gab gab bag", "be bag"] * 4
SAID, OTHER = -0.1, -9.0  # log-likelihoods of a letter that is said, and of every other one


def write_letter_text(folder: Path, lines: Sequence[str] = LINES) -> list[str]:
    """Let the text stage read lines into ``folder/text``; return its phones."""
    (folder / "text").mkdir(parents=True)
    (folder / "text.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    config = TextConfig(phonemizer="graphemes", min_word_count=1, min_phone_share=0.0)
    text_stage.run(Work(folder / "text"), config, folder / "text.txt", "en")
    return PhoneText(folder / "text").phones


def letter_graph(folder: Path, name: str = "graph", **changes: Any) -> SearchSettings:
    """Build the graph of what `write_letter_text` wrote."""
    place = folder / name
    place.mkdir()
    config = GraphConfig(**{"fragments": 0, "silence_probability": 0.2, **changes})
    graph_stage.run(Work(place), config, folder / "text.txt", "en", folder / "text")
    return SearchSettings(place, beam=40.0, lattice_beam=8.0, max_active=4000, stay=0.5)


def scores_of(phones: Sequence[str], letters: str, frames: int = 2) -> NDArray[np.float32]:
    """Say letters, each for so many frames; a blank is a pause."""
    rows = np.repeat([phones.index(x) if x != " " else 0 for x in letters], frames).astype(int)
    scores = np.full((len(rows), len(phones)), OTHER, dtype=np.float32)
    scores[np.arange(len(rows)), rows] = SAID
    return scores
