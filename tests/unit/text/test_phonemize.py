"""Words to phones."""

from __future__ import annotations

import importlib.util
import sys
import unicodedata
from pathlib import Path

import pytest

from wav2vec_u.config import TextConfig
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.phonemize import (
    EspeakPhonemizer,
    GraphemePhonemizer,
    LexiconPhonemizer,
    load_phonemizer,
)

needs_espeak = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("phonemizer", "espeakng_loader")),
    reason="phonemizer and espeakng-loader are not installed (extra `text`)",
)


@needs_espeak
@pytest.mark.parametrize(
    ("language", "word", "phones"),
    [
        ("en-us", "hello", ("h", "ə", "l", "oʊ")),
        ("en", "sister's", ("s", "ɪ", "s", "t", "ɚ", "z")),
        ("en_US", "cat", ("k", "æ", "t")),
        ("de", "hallo", ("h", "a", "l", "oː")),
        ("sw", "habari", ("h", "a", "b", "a", "r", "i")),
        ("ky", "кыргыз", ("q", "ɯ", "r", "ʁ", "ɯ", "z")),
        ("tt", "татар", ("t", "ɒ", "t", "ɒ", "r")),
    ],
)
def test_espeak_voices(language: str, word: str, phones: tuple[str, ...]) -> None:
    assert EspeakPhonemizer().phonemize([word], language) == {word: phones}


@needs_espeak
def test_espeak_leaves_out_what_it_does_not_read_as_a_word() -> None:
    # Foreign letters are read as names in several words; a number is read in several words too.
    words = ["日本", "23", "...", "", "cat"]
    found = EspeakPhonemizer().phonemize(words, "en-us")
    assert set(found) == {"23", "cat"}
    assert found["23"] == ("t", "w", "ɛ", "n", "t", "i", "θ", "ɹ", "iː")


@needs_espeak
def test_espeak_flags_and_separators_never_become_phones() -> None:
    found = EspeakPhonemizer().phonemize(["download", "computer", "haus", "1865"], "de")
    assert "haus" in found
    for phones in found.values():
        assert all(phone and not set(phone) & set("()_ ˈˌ") for phone in phones)


@needs_espeak
def test_espeak_batches_keep_words_and_phones_together(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["cat", "dog", "house", "river", "stone"]
    whole = EspeakPhonemizer().phonemize(words, "en-us")
    monkeypatch.setattr("wav2vec_u.text.phonemize._BATCH_WORDS", 2)
    assert EspeakPhonemizer().phonemize(words, "en-us") == whole
    assert whole["dog"][0] == "d"


@needs_espeak
@pytest.mark.parametrize(
    ("language", "suggestion"), [("pt-pt", "pt"), ("german", "de"), ("en-uk", "en-gb"), ("", "sw")]
)
def test_espeak_suggests_voices(language: str, suggestion: str) -> None:
    with pytest.raises(UserError, match=rf"no voice {language!r}.*\b{suggestion}\b"):
        EspeakPhonemizer().phonemize(["a"], language)


@needs_espeak
def test_espeak_says_its_version() -> None:
    assert EspeakPhonemizer().is_available()
    assert EspeakPhonemizer().version().startswith("1.")


def test_espeak_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert not EspeakPhonemizer().is_available()
    with pytest.raises(UserError, match=r"pip install 'wav2vec-u\[text\]'"):
        EspeakPhonemizer().phonemize(["a"], "en-us")


def test_graphemes() -> None:
    found = GraphemePhonemizer().phonemize(["straße", "l'été", "b2b", "42", "हिन्दी"], "xx")
    assert found == {
        "straße": tuple("strasse"),
        "l'été": tuple("lété"),
        "हिन्दी": tuple("हिन्दी"),
    }


@pytest.mark.parametrize(
    ("word", "phones"),
    [("pẹ̀lú", ["p", "ẹ̀", "l", "ú"]), ("ŋgə̀", ["ŋ", "g", "ə̀"]), ("e\u0301te", ["é", "t", "e"])],
)
def test_marks_belong_to_their_letter_composed_or_not(word: str, phones: list[str]) -> None:
    found = GraphemePhonemizer().phonemize([word], "xx")[word]
    assert [unicodedata.normalize("NFC", phone) for phone in found] == [
        unicodedata.normalize("NFC", phone) for phone in phones
    ]


def test_lexicon_file(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("cat\tk æ t\nDog\td ɒ ɡ\n", encoding="utf-8")
    phonemizer = LexiconPhonemizer(path)
    assert phonemizer.is_available()
    assert phonemizer.phonemize(["dog", "bird"], "en") == {"dog": ("d", "ɒ", "ɡ")}
    before = phonemizer.version()
    path.write_text("cat\tk a t\n", encoding="utf-8")
    assert phonemizer.version() != before
    assert not LexiconPhonemizer(tmp_path / "absent").is_available()


def test_load_phonemizer(tmp_path: Path) -> None:
    for name in ("espeak", "graphemes"):
        assert load_phonemizer(TextConfig(phonemizer=name)).name() == name
    config = TextConfig(phonemizer="lexicon", lexicon=tmp_path / "absent.tsv")
    assert load_phonemizer(config).name() == "lexicon"
    with pytest.raises(UserError, match=r"absent.tsv.*cannot be read"):
        load_phonemizer(config).phonemize(["a"], "en")
    with pytest.raises(UserError, match=r"text\.lexicon"):
        load_phonemizer(TextConfig(phonemizer="lexicon"))
