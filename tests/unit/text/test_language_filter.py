"""Foreign lines, found without labels."""

from __future__ import annotations

import numpy as np

from wav2vec_u.testing.language import make_language
from wav2vec_u.text.language_filter import LanguageFilter


def test_finds_planted_foreign_lines() -> None:
    own = [" ".join(words) for words in make_language(0).sentences(950, "text")]
    foreign = [" ".join(words)[::-1].upper() for words in make_language(7).sentences(50, "text")]
    lines = own + foreign
    order = np.random.default_rng(0).permutation(len(lines))
    bulk = LanguageFilter().fit(lines[i] for i in order)
    assert bulk.keeps(own).mean() > 0.99
    assert bulk.keeps(foreign).mean() < 0.1


def test_unseen_characters_count_against_a_line() -> None:
    own = [" ".join(words) for words in make_language(0).sentences(500, "text")]
    bulk = LanguageFilter().fit(own)
    longest = max(own, key=len)
    assert bulk.keeps([longest, "дом у реки стоит давно"]).tolist() == [True, False]


def test_says_nothing_without_evidence() -> None:
    assert LanguageFilter().fit(["abc"] * 5).keeps(["дом у реки стоит"]).tolist() == [True]
    bulk = LanguageFilter().fit(["the old house"] * 200)
    assert bulk.keeps(["дом", ""]).tolist() == [True, True]  # too short to tell
    assert bulk.keeps([]).shape == (0,)
