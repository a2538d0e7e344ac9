"""Planted faults of the text side: too little, wrong language, wrong script, chance statistics."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec_u.doctor.languages import FREQUENT_WORDS
from wav2vec_u.doctor.text_checks import (
    check_inventory,
    check_language,
    check_noise_floor,
    check_script,
    check_text_amount,
    check_vocabulary,
)


@pytest.mark.parametrize(
    ("sentences", "level"), [(0, "stop"), (2_999, "stop"), (3_000, "warn"), (30_000, "ok")]
)
def test_text_amount(sentences: int, level: str) -> None:
    assert check_text_amount(sentences).level == level


@pytest.mark.parametrize(
    ("number", "level"), [(3, "stop"), (12, "warn"), (40, "ok"), (100, "ok"), (150, "warn")]
)
def test_inventory_does_not_count_silence(number: int, level: str) -> None:
    finding = check_inventory(["<SIL>", *(f"p{i}" for i in range(number))])
    assert finding.level == level
    assert finding.message == f"{number} phones"


@pytest.mark.parametrize(("words", "level"), [(50, "stop"), (500, "warn"), (20_000, "ok")])
def test_vocabulary(words: int, level: str) -> None:
    assert check_vocabulary(words).level == level


@pytest.mark.parametrize("language", ["en", "en-us", "de", "sw", "pt-br"])
def test_right_language_passes(language: str) -> None:
    words = [*FREQUENT_WORDS[language[:2]], "quux", "Blah"]
    assert check_language(words, language).level == "ok"


@pytest.mark.parametrize("said", sorted(FREQUENT_WORDS))
def test_text_of_any_other_language_is_found(said: str) -> None:
    for written in sorted(FREQUENT_WORDS):
        if written != said:
            finding = check_language(FREQUENT_WORDS[written], said)
            assert finding.level == "stop", (said, written)
            assert f"of {written}" in finding.message


def test_text_of_no_known_language_warns() -> None:
    assert check_language(["xyzzy", "plugh"], "en").level == "warn"


def test_language_without_a_list_is_left_in_peace() -> None:
    finding = check_language(["xyzzy"], "kl")
    assert finding.level == "ok"
    assert "not checked" in finding.message


@pytest.mark.parametrize(
    ("words", "language", "level"),
    [
        (["hello", "wörld"], "en-us", "ok"),
        (["привет", "мир"], "ru", "ok"),
        (["ሰላም", "ዓለም"], "am", "ok"),
        (["привет", "мир"], "en", "stop"),
        (["selam", "alem"], "am", "stop"),
        (["hello"] * 8 + ["мир"] * 2, "en", "warn"),
        (["мир"], "xx", "ok"),
        (["123", "--"], "en", "stop"),
    ],
)
def test_script(words: list[str], language: str, level: str) -> None:
    assert check_script(words, language).level == level


@pytest.mark.parametrize(
    ("distances", "level"),
    [
        ([0, 0.001, 0.01, 0.05], "ok"),
        ([0, 0.01, 0.09, 0.3], "warn"),
        ([0, 0.1, 0.3, 0.6], "stop"),
        ([np.nan] * 4, "stop"),
    ],
)
def test_noise_floor(distances: list[float], level: str) -> None:
    assert check_noise_floor(distances).level == level
