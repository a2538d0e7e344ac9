"""Words and their phones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_text
from wav2vec_u.text.ngram_table import SPECIAL_NAMES
from wav2vec_u.text.normalize import Normalizer

LEXICON_NAME = "lexicon.tsv"
SILENCE = "<SIL>"
_RESERVED = frozenset((SILENCE, *SPECIAL_NAMES))
_COMMENT = ";;;"
_TRAILING_COMMENT = "#"  # as a field of its own
_VARIANT = re.compile(r"\(\d+\)$")  # word(2) of CMUdict
_STRESSED_ARPABET = re.compile(r"[A-Z]{2}[012]")  # AH0: vowels of CMUdict

Phones = tuple[str, ...]


class Lexicon:
    """One pronunciation a word.

    Parameters
    ----------
    entries : mapping of str to tuple of str
        Normalised word to phones.

    Examples
    --------
    >>> lexicon = Lexicon({"a": ("ə",), "cat": ("k", "æ", "t")})
    >>> lexicon.pronounce("a cat")
    ['ə', 'k', 'æ', 't']
    >>> lexicon.pronounce("a dog") is None
    True
    """

    def __init__(self, entries: Mapping[str, Phones]) -> None:
        self._entries = dict(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, word: object) -> bool:
        return word in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __getitem__(self, word: str) -> Phones:
        return self._entries[word]

    def pronounce(self, sentence: str) -> list[str] | None:
        """Return the phones of a normalised sentence; None if one of its words is not known."""
        phones: list[str] = []
        for word in sentence.split():
            if word not in self._entries:
                return None
            phones.extend(self._entries[word])
        return phones

    def write(self, folder: Path) -> None:
        """Write ``lexicon.tsv``: word, tab, phones separated by spaces."""
        lines = (f"{word}\t{' '.join(phones)}\n" for word, phones in self._entries.items())
        write_text(folder / LEXICON_NAME, "".join(lines))


def read_lexicon(folder: Path) -> Lexicon:
    """Read the lexicon of a text artefact.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    path = folder / LEXICON_NAME
    entries: dict[str, Phones] = {}
    for number, line in _lines(path):
        word, tab, phones = line.partition("\t")
        if not (word and tab and phones.strip()):
            raise UserError(f"{path}:{number}: is damaged; run the text stage again")
        entries[word] = tuple(phones.split())
    return Lexicon(entries)


def read_user_lexicon(path: Path, language: str = "") -> Lexicon:
    """Read a lexicon of someone else's.

    A line is a word, a tab or spaces, and phones separated by spaces. Lines that are empty or begin
    with ``;;;`` are passed over. CMUdict's ways are known: of several pronunciations (``word(2)``)
    the first is used, the stress digits of its vowels are dropped, and so is what follows a ``#``.
    Words are normalised as the text is.

    Raises
    ------
    UserError
        If the file is missing, not UTF-8 or empty, or a line has no phones or a reserved symbol.
    """
    normalizer = Normalizer(language)
    entries: dict[str, Phones] = {}
    for number, line in _lines(path):
        if not line.strip() or line.startswith(_COMMENT):
            continue
        head, tab, tail = line.partition("\t")
        fields = [head.strip(), *tail.split()] if tab else line.split()
        if _TRAILING_COMMENT in fields:
            fields = fields[: fields.index(_TRAILING_COMMENT)] or [""]
        word = normalizer(_VARIANT.sub("", fields[0]))
        phones = tuple(_without_stress(fields[1:]))
        if not phones or not fields[0]:
            raise UserError(
                f"{path}:{number}: expected a word and its phones, such as `cat k æ t`, "
                f"found {line.strip()!r}"
            )
        if not _RESERVED.isdisjoint(phones):
            raise UserError(f"{path}:{number}: {line.strip()!r} uses a reserved symbol as a phone")
        if word:  # names of punctuation marks have none
            entries.setdefault(word, phones)
    if not entries:
        raise UserError(f"{path}: has no entry; expected lines such as `cat k æ t`")
    return Lexicon(entries)


def _without_stress(phones: Iterable[str]) -> Iterator[str]:
    for phone in phones:
        yield phone[:-1] if _STRESSED_ARPABET.fullmatch(phone) else phone


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.rstrip("\r\n")
    except OSError as error:
        raise UserError(f"{path}: the lexicon cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the lexicon is not UTF-8 text; convert the file") from error
