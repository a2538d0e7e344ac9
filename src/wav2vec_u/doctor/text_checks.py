"""Checks of the text side: amount, phones, statistics, language."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence

from wav2vec_u.doctor.findings import Finding
from wav2vec_u.doctor.languages import FREQUENT_WORDS, SCRIPTS


def check_text_amount(sentences: int) -> Finding:
    """Judge the number of sentences.

    Below about 30,000 training is a lottery, at 3,000 it fails unless the text fits the speech
    closely (Lin et al., 2022).
    """
    message = f"{sentences:,} sentences of text"
    if sentences < 3_000:
        return Finding(
            "stop", "text amount", message, "add text of the language; 30,000 sentences are wanted"
        )
    if sentences < 30_000:
        return Finding("warn", "text amount", message, "add text; 30,000 sentences are wanted")
    return Finding("ok", "text amount", message)


def check_inventory(phones: Sequence[str]) -> Finding:
    """Judge the number of phones.

    Parameters
    ----------
    phones : sequence of str
        Inventory; the silence, if it is in it, stands first.
    """
    number = sum(phone != "<SIL>" for phone in phones)
    message = f"{number} phones"
    if number < 8:
        return Finding(
            "stop", "phone inventory", message, "no language has so few: check text and language"
        )
    if number < 15:
        return Finding("warn", "phone inventory", message, "few: check text and language")
    if number > 100:
        return Finding(
            "warn",
            "phone inventory",
            message,
            "many: raise text.min_phone_share, check the language",
        )
    return Finding("ok", "phone inventory", message)


def check_vocabulary(words: int) -> Finding:
    """Judge the number of different words."""
    message = f"{words:,} different words"
    if words < 200:
        return Finding(
            "stop", "vocabulary", message, "the text repeats itself: add text of other content"
        )
    if words < 2_000:
        return Finding("warn", "vocabulary", message, "few: add text of other content")
    return Finding("ok", "vocabulary", message)


def check_noise_floor(distances: Sequence[float]) -> Finding:
    """Judge the distances between two random halves of the text (`split_half_distances`)."""
    listed = ", ".join(f"{order}-grams {value:.3f}" for order, value in enumerate(distances, 1))
    message = f"halves of the text differ by (bits): {listed}"
    if not all(value == value for value in distances):  # NaN: no n-gram of that order
        return Finding("stop", "text statistics", "there are no n-grams to count", "add text")
    if len(distances) >= 4 and distances[3] > 0.4:
        return Finding(
            "stop", "text statistics", message, "4-grams of this text are chance: add text"
        )
    if len(distances) >= 4 and distances[3] > 0.2:
        return Finding("warn", "text statistics", message, "add text for reliable 4-grams")
    return Finding("ok", "text statistics", message)


def check_script(words: Collection[str], language: str) -> Finding:
    """Find words in another script than most words, or than the language is written in."""
    topic = "script"
    counts = Counter(_script(word) for word in words)
    counts.pop("", None)
    total = sum(counts.values())
    if total == 0:
        return Finding("stop", topic, "no word has letters", "check the text")
    main, number = counts.most_common(1)[0]
    share = 100.0 * number / total
    message = f"{share:.0f} % of the words are written in {main.title()}"
    expected = SCRIPTS.get(_base(language), "LATIN" if _base(language) in FREQUENT_WORDS else None)
    if expected is not None and main != expected:
        return Finding(
            "stop",
            topic,
            message,
            f"language {language} is written in {expected.title()}: check text and language",
        )
    if share < 95:
        return Finding("warn", topic, message, "remove foreign lines, or set text.language_filter")
    return Finding("ok", topic, message)


def check_language(words: Collection[str], language: str) -> Finding:
    """Look for the most frequent words of the language, and for those of others.

    Of about twenty words that hold every text of a language together, nearly all are found in a
    few hundred lines, and few in a text of another language.
    """
    topic = "language"
    present = {word.casefold() for word in words}
    found = {
        name: sum(word in present for word in frequent) / len(frequent)
        for name, frequent in FREQUENT_WORDS.items()
    }
    own = found.get(_base(language))
    if own is None:
        return Finding("ok", topic, f"no list of frequent words for {language}: not checked")
    other, best = max(found.items(), key=lambda item: item[1])
    message = f"{100 * own:.0f} % of the most frequent words of {language} are in the text"
    if own < 0.6 and best > own + 0.2:
        return Finding(
            "stop", topic, f"{message}, {100 * best:.0f} % of {other}", "check text and language"
        )
    if own < 0.6:
        return Finding("warn", topic, message, "check text and language")
    return Finding("ok", topic, message)


def _base(language: str) -> str:
    """Drop region and variant: ``en-us`` is ``en``."""
    return language.lower().replace("_", "-").split("-")[0]


def _script(word: str) -> str:
    """First word of the Unicode name of a word's first letter: LATIN, CYRILLIC, ETHIOPIC..."""
    for character in word:
        if character.isalpha():
            return unicodedata.name(character, "").split(" ")[0]
    return ""
