"""What a fine-tuned model writes: phones or letters, and the way from a transcript to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from wav2vec_u.config import TextConfig
from wav2vec_u.text.lexicon import Lexicon
from wav2vec_u.text.normalize import Normalizer
from wav2vec_u.text.phonemize import load_phonemizer

UnitKind = Literal["phones", "letters"]
WORD_BOUNDARY = "|"  # the space between words, as in wav2vec 2.0's letter vocabulary


@dataclass(frozen=True)
class Units:
    """The symbols that a model tells apart; CTC's blank comes behind them and is not one.

    Attributes
    ----------
    kind : {"phones", "letters"}
    symbols : tuple of str
        V symbols; their positions are their ids, and V is the id of the blank.
    language : str
        Of the transcripts.

    Examples
    --------
    >>> units = Units("letters", ("a", "b", "|"), "en")
    >>> units.encode(["b", "|", "a"])
    [1, 2, 0]
    >>> units.unknown(["b", "q"])
    ['q']
    >>> units.join(["b", "|", "a"])
    'b a'
    >>> units.tidy([2, 1, 2, 2, 0, 2])
    [1, 2, 0]
    """

    kind: UnitKind
    symbols: tuple[str, ...]
    language: str

    def __len__(self) -> int:
        return len(self.symbols)

    def unknown(self, symbols: Iterable[str]) -> list[str]:
        """Return those that are no units, sorted."""
        return sorted(set(symbols) - set(self.symbols))

    def encode(self, symbols: Sequence[str]) -> list[int]:
        """Return the ids; KeyError for a symbol that is no unit."""
        ids = {symbol: number for number, symbol in enumerate(self.symbols)}
        return [ids[symbol] for symbol in symbols]

    def tidy(self, ids: Sequence[int]) -> list[int]:
        """Leave one word boundary between words and none around them: a long pause is no word."""
        if WORD_BOUNDARY not in self.symbols:
            return list(ids)
        boundary = self.symbols.index(WORD_BOUNDARY)
        kept: list[int] = []
        for number in ids:
            if number != boundary or (kept and kept[-1] != boundary):
                kept.append(number)
        return kept[:-1] if kept and kept[-1] == boundary else kept

    def join(self, symbols: Sequence[str]) -> str:
        """Return phones with spaces between them, or letters as words."""
        if self.kind == "phones":
            return " ".join(symbols)
        return " ".join("".join(symbols).replace(WORD_BOUNDARY, " ").split())


def collect_units(
    spelled: Iterable[Sequence[str]], kind: UnitKind, language: str, min_count: int
) -> Units:
    """Make an inventory of the symbols that occur often enough to be learned."""
    counts = Counter(symbol for symbols in spelled for symbol in symbols)
    frequent = sorted(symbol for symbol, count in counts.items() if count >= min_count)
    return Units(kind, tuple(frequent), language)


def spell(
    transcripts: Sequence[str], kind: UnitKind, config: TextConfig, language: str
) -> list[list[str] | None]:
    """Turn transcripts into symbols, as the text stage turns unpaired text into them.

    Parameters
    ----------
    transcripts : sequence of str
    kind : {"phones", "letters"}
        Letters are the characters of the normalised words, with `WORD_BOUNDARY` between words.
    config : TextConfig
        Names the phonemizer.
    language : str

    Returns
    -------
    list of (list of str or None)
        None where a word cannot be pronounced, or no word is left.

    Raises
    ------
    UserError
        If the phonemizer is not installed, or does not know the language.
    """
    normalize = Normalizer(language)
    sentences = [normalize(transcript) for transcript in transcripts]
    if kind == "letters":
        return [list(sentence.replace(" ", WORD_BOUNDARY)) or None for sentence in sentences]
    words = sorted({word for sentence in sentences for word in sentence.split()})
    lexicon = Lexicon(load_phonemizer(config).phonemize(words, language))
    return [lexicon.pronounce(sentence) or None for sentence in sentences]
