"""A decoding graph of six words, in the folder of a finished graph stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wav2vec_u.graph.build import build_graph
from wav2vec_u.graph.language_model import write_word_model
from wav2vec_u.graph.search import WordSearch
from wav2vec_u.text.lexicon import Lexicon

PHONES = ["<SIL>", "a", "b", "c", "t"]
# `at` begins `atta`; `ca` and `ka` sound alike; `tat` ends and begins with the same phone.
LEXICON = Lexicon(
    {
        "at": ("a", "t"),
        "atta": ("a", "t", "t", "a"),
        "tat": ("t", "a", "t"),
        "ca": ("c", "a"),
        "ka": ("c", "a"),
        "b": ("b",),
    }
)
TEXT = ["at tat ca b", "tat tat at b", "atta ka b", "b ka at", "ca b tat", "at atta tat"] * 3
STAY, SILENCE_BETWEEN = 0.5, 0.2  # probabilities


def write_model(path: Path, lines: Sequence[str], lexicon: Lexicon) -> Path:
    """Write the word bigrams of sentences, and the sentences beside them; return `path`."""
    text = path.with_name("text.txt")
    text.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    write_word_model(path, text, lexicon, "en", order=2, max_words=10_000, fragments=0, seed=0)
    return path


def make_graph(
    folder: Path,
    lines: Sequence[str] = tuple(TEXT),
    lexicon: Lexicon = LEXICON,
) -> dict[str, int]:
    """Write ``graph``, and the text and its model beside it; return the figures."""
    (folder / "graph").mkdir(parents=True, exist_ok=True)
    arpa = write_model(folder / "words.arpa", lines, lexicon)
    return build_graph(folder / "graph", arpa, 2, lexicon, PHONES, SILENCE_BETWEEN)


def open_search(
    folder: Path,
    beam: float = 30.0,
    lattice_beam: float = 8.0,
    max_active: int = 4000,
    word_cost: float = 0.0,
    scale: float = 1.0,
    stay: float = STAY,
) -> WordSearch:
    """Search what `make_graph` wrote."""
    return WordSearch(folder / "graph", beam, lattice_beam, max_active, word_cost, scale, stay)
