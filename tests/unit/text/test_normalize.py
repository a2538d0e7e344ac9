"""Normalisation of text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.text.normalize import Normalizer


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Her sister 's marriage , indeed !", "her sister's marriage indeed"),
        ("Do n't , we 'll see", "don't we'll see"),
        ("the sisters ' house", "the sisters house"),
        ("and 'tis true", "and tis true"),
        ("``Oh!'' he said -- twice---no", "oh he said twice no"),
        ("well-known - or not-", "well-known or not"),
        ("sag’ ich’s", "sag ich's"),
        ("\ufeffBonjour", "bonjour"),
        ("co\u00adopera\u200dtive", "cooperative"),
        ("one\u200btwo", "one two"),
        ("ﬁne ＡＢＣ", "fine abc"),
        ("STRASSE Straße", "strasse straße"),
        ("हिन्दी में", "हिन्दी में"),
        ("1865 was a_year", "1865 was a year"),
        ("e\u0301te\u0301", "été"),
        (" ... -- ' ", ""),
        ("a\x00b\tc", "a b c"),
        ("'s", "s"),
        ("He said, 'I am here.'", "he said i am here"),
        ("She answered 'no' and left", "she answered no and left"),
        ("'It is he,' they cried, 'it is he!'", "it is he they cried it is he"),
        ("in 't huis het 'n man", "in t huis het n man"),
    ],
)
def test_examples(line: str, expected: str) -> None:
    assert Normalizer("en")(line) == expected


def test_turkish_has_two_letters_i() -> None:
    assert Normalizer("tr")("IŞIK İNCİ") == "ışık inci"
    assert Normalizer("de")("INSEL") == "insel"


@settings(deadline=None)
@given(st.text(max_size=60))
def test_is_idempotent(line: str) -> None:
    normalizer = Normalizer()
    once = normalizer(line)
    assert normalizer(once) == once


@settings(deadline=None)
@given(st.lists(st.sampled_from(list("aÀß's-`\u0301\u200d’ʼ İΣn t1.—ﬁ")), max_size=15).map("".join))
def test_is_idempotent_on_hard_characters(line: str) -> None:
    for language in ("en", "tr"):
        normalizer = Normalizer(language)
        once = normalizer(line)
        assert normalizer(once) == once
        assert once == " ".join(once.split())
