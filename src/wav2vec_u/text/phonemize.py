"""From words to phones: espeak-ng, a lexicon, or the letters themselves.

Words are pronounced one by one, as in the reference, and not sentence by sentence, so that a word
has one pronunciation and a lexicon can be written down.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from wav2vec_u.config import TextConfig
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.lexicon import Phones, read_user_lexicon

_BATCH_WORDS = 10_000
_SEPARATORS = re.compile("[_ ]+")
_ABOVE_AND_BELOW = 200  # combining classes from here on: marks around a letter, no vowel signs
# Common codes that espeak-ng has under another name.
_ALIASES = {"en": "en-us", "fr": "fr-fr", "zh": "cmn", "no": "nb"}


class Phonemizer(Protocol):
    """What turns words into phones."""

    def name(self) -> str:
        """Name as in the setting ``text.phonemizer``."""

    def version(self) -> str:
        """Version of what pronounces; empty where there is none."""

    def is_available(self) -> bool:
        """Tell whether what it needs is installed."""

    def phonemize(self, words: Sequence[str], language: str) -> dict[str, Phones]:
        """Return the phones of the words that can be pronounced.

        Raises
        ------
        UserError
            If the language is not known, or something needed is missing.
        """


class EspeakPhonemizer:
    """espeak-ng through phonemizer, with the library and voices of the package espeakng-loader.

    Stress is left out, length marks stay, and so do the phones of words that espeak reads as
    foreign; where those are rare, `text.stage` drops their words.
    """

    def name(self) -> str:
        """Return ``espeak``."""
        return "espeak"

    def is_available(self) -> bool:
        """Tell whether the extra ``text`` is installed."""
        try:
            _load_espeak()
        except UserError:
            return False
        return True

    def version(self) -> str:
        """Return the version of the espeak-ng library."""
        return ".".join(str(part) for part in _load_espeak().version())

    def phonemize(self, words: Sequence[str], language: str) -> dict[str, Phones]:
        """Return the phones of the words that espeak-ng reads as words.

        Left out are words without phones, and words that it spells out although they are no
        numbers: letters of a foreign script are read as their names, in several words.
        """
        from phonemizer.separator import Separator

        backend = _load_espeak()(
            _voice(language, _load_espeak().supported_languages()),
            language_switch="remove-flags",
            with_stress=False,
            logger=_silent_logger(),
        )
        separator = Separator(phone="_", word=" ", syllable="")
        found: dict[str, Phones] = {}
        for first in range(0, len(words), _BATCH_WORDS):
            batch = list(words[first : first + _BATCH_WORDS])
            spoken = backend.phonemize(batch, separator=separator, strip=False, njobs=1)
            for word, reading in zip(batch, spoken, strict=True):
                phones = tuple(phone for phone in _SEPARATORS.split(reading) if phone)
                is_number = any(character.isnumeric() for character in word)
                spelt_out = len(reading.split()) > 1 and not is_number
                if phones and not spelt_out and "(" not in reading:
                    found[word] = phones
        return found


class LexiconPhonemizer:
    """Words of a pronunciation dictionary.

    Parameters
    ----------
    path : Path
        File that `lexicon.read_user_lexicon` reads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def name(self) -> str:
        """Return ``lexicon``."""
        return "lexicon"

    def is_available(self) -> bool:
        """Tell whether the file is there."""
        return self._path.is_file()

    def version(self) -> str:
        """Return a digest of the file, as the settings hold no more than its name."""
        return hashlib.sha256(self._path.read_bytes()).hexdigest()[:12]

    def phonemize(self, words: Sequence[str], language: str) -> dict[str, Phones]:
        """Return the phones of the words that are in the dictionary."""
        lexicon = read_user_lexicon(self._path, language)
        return {word: lexicon[word] for word in words if word in lexicon}


class GraphemePhonemizer:
    """Letters as phones, for languages that are written as they are spoken."""

    def name(self) -> str:
        """Return ``graphemes``."""
        return "graphemes"

    def is_available(self) -> bool:
        """Return True."""
        return True

    def version(self) -> str:
        """Return nothing."""
        return ""

    def phonemize(self, words: Sequence[str], language: str) -> dict[str, Phones]:
        """Return the letters and marks of every word, in folded case.

        Accents and tone marks belong to their letter, whether Unicode has the two as one or not;
        vowel signs are phones of their own. Words with digits are left out: their letters do not
        say how they sound.
        """
        spelt = {
            word: tuple(_letters(word))
            for word in words
            if not any(character.isnumeric() for character in word)
        }
        return {word: letters for word, letters in spelt.items() if letters}


def load_phonemizer(config: TextConfig) -> Phonemizer:
    """Return the phonemizer that the settings ask for.

    Raises
    ------
    UserError
        If ``text.lexicon`` is missing where it is needed.
    """
    if config.phonemizer == "espeak":
        return EspeakPhonemizer()
    if config.phonemizer == "graphemes":
        return GraphemePhonemizer()
    if config.lexicon is None:
        raise UserError("text.lexicon: name the file that `text.phonemizer: lexicon` shall read")
    return LexiconPhonemizer(config.lexicon)


def _load_espeak() -> Any:
    """Return phonemizer's ``EspeakBackend``, using the espeak-ng that comes as a wheel."""
    try:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
    except ImportError as error:
        raise UserError(
            "text.phonemizer: espeak needs more packages; run `pip install 'wav2vec-u[text]'`, "
            "or set it to lexicon or graphemes"
        ) from error
    # Settings of the whole process, and the same ones every time.
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    return EspeakBackend


def _voice(language: str, voices: dict[str, Any]) -> str:
    plain = language.lower().replace("_", "-")
    for code in (language, plain, _ALIASES.get(plain)):
        if code in voices:
            return str(code)
    prefix = plain.split("-")[0]
    relatives = [code for code in sorted(voices) if prefix and code.split("-")[0] == prefix]
    close = difflib.get_close_matches(plain, sorted(voices), n=4, cutoff=0.4)
    named = [code for code, name in sorted(voices.items()) if name.lower() == plain]
    suggestions = list(dict.fromkeys([*named, *relatives, *close]))[:5]
    hint = f"did you mean {', '.join(suggestions)}?" if suggestions else "try one such as de or sw"
    raise UserError(
        f"language: espeak has no voice {language!r}; {hint} "
        "(for a language without one, set text.phonemizer to graphemes)"
    )


def _silent_logger() -> logging.Logger:
    """Return a logger that says nothing: phonemizer warns of every number and foreign word."""
    logger = logging.getLogger("wav2vec_u.text.phonemizer")
    logger.setLevel(logging.CRITICAL)
    return logger


def _letters(word: str) -> list[str]:
    letters: list[str] = []
    for character in unicodedata.normalize("NFC", word.casefold()):
        if letters and unicodedata.combining(character) >= _ABOVE_AND_BELOW:
            letters[-1] += character
        elif _is_letter(character):
            letters.append(character)
    return letters


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"
