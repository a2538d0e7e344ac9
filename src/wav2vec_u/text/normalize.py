"""One spelling for every word: the only place where text is cleaned and lower-cased.

Follows the reference's ``normalize_and_filter_text.py``: whatever is no letter, number, mark,
apostrophe, space or hyphen becomes a space. Beyond it: NFKC, lower case, and the pieces of
tokenised text ("sister 's", "do n't") put together again.
"""

from __future__ import annotations

import re
import unicodedata

_APOSTROPHES = "'’ʼ＇"
_HYPHENS = "-‐‑"
_ZERO_WIDTH_SPACE = "\u200b"
# They belong to the word before; whatever else begins so opens a quotation, or is a word ('tis).
_CONTRACTIONS = frozenset({"'s", "'d", "'m", "'ll", "'re", "'ve"})
_REPEATED = re.compile(r"'{2,}|-{2,}")  # quotation marks and dashes of plain-text books


class Normalizer:
    """Turn a line of text into words separated by single spaces.

    Parameters
    ----------
    language : str
        Code as for espeak; Turkish and Azerbaijani have their own lower case of I.

    Examples
    --------
    >>> Normalizer("en")("Her sister 's house -- the OLD one!")
    "her sister's house the old one"
    """

    def __init__(self, language: str = "") -> None:
        self._has_dotless_i = language.split("-")[0] in ("tr", "az")
        self._characters = _Characters()

    def __call__(self, line: str) -> str:
        """Return the words of a line; empty if it has none. Idempotent."""
        text = unicodedata.normalize("NFKC", line).translate(self._characters)
        if self._has_dotless_i:
            text = text.replace("I", "ı").replace("İ", "i")
        text = unicodedata.normalize("NFKC", text.lower())
        words: list[str] = []
        for token in _REPEATED.sub(" ", text).split():
            word = token.strip("'-")
            if not any(character.isalnum() for character in word):
                continue
            if words and token in _CONTRACTIONS:
                words[-1] += token
            elif words and word == "n't":
                words[-1] += word
            else:
                words.append(word)
        return " ".join(words)


class _Characters(dict[int, str]):
    """Table for `str.translate` that looks every character up once."""

    def __missing__(self, code: int) -> str:
        self[code] = replacement = _replacement(chr(code))
        return replacement


def _replacement(character: str) -> str:
    if character in _APOSTROPHES:
        return "'"
    if character in _HYPHENS:
        return "-"
    category = unicodedata.category(character)
    if category[0] in "LNM":
        return character
    # Joiners, soft hyphens and byte-order marks stand inside words and are not heard.
    if category == "Cf" and character != _ZERO_WIDTH_SPACE:
        return ""
    return " "
