"""Phones to letters: planted spellings come back, and damage is told."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text import spelling
from wav2vec_u.text.joint_units import JointUnit, align
from wav2vec_u.text.lexicon import Lexicon
from wav2vec_u.text.ngram_table import END, FIRST_SYMBOL, START
from wav2vec_u.text.spelling import SPELLING_NAME, Speller

# One phone is spelled with two letters, one letter says two phones, and one vowel depends on what
# follows it: before m it is doubled.
CONSONANTS = {"ʃ": "sch", "k": "k", "m": "m", "t": "t"}


def spell_as_planted(phones: tuple[str, ...]) -> str:
    written = []
    place = 0
    while place < len(phones):
        here, following = phones[place], phones[place + 1 : place + 2]
        if here == "k" and following == ("s",):
            written.append("x")
            place += 2
            continue
        written.append("ee" if here == "e" and following == ("m",) else CONSONANTS.get(here, here))
        place += 1
    return "".join(written)


SYLLABLES = [
    (*start, vowel, *end)
    for start, vowel, end in product(
        [("ʃ",), ("k",), ("t",), ("k", "s")], "aeo", [("m",), ("t",), ("k", "s"), ()]
    )
]
WORDS = [*SYLLABLES, *(one + other for one, other in product(SYLLABLES, SYLLABLES))]
KNOWN = Lexicon({spell_as_planted(phones): phones for phones in WORDS[::2]})


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller.learn(KNOWN, seed=0)


def test_planted_spellings_of_words_never_seen(speller: Speller) -> None:
    unseen = [phones for phones in WORDS[1::2] if spell_as_planted(phones) not in KNOWN]
    right = sum(speller.spell(phones) == spell_as_planted(phones) for phones in unseen)
    assert len(unseen) > 500
    assert right / len(unseen) > 0.97


def test_pieces_are_those_that_were_planted() -> None:
    units, cuts = align([(word, KNOWN[word]) for word in KNOWN])
    used = {units[number] for cut in cuts for number in cut.tolist()}
    assert JointUnit(("ʃ",), "sch") in used
    assert JointUnit(("e",), "ee") in used
    for word, cut in zip(KNOWN, cuts, strict=True):
        pieces = [units[number] for number in cut.tolist()]
        assert "".join(piece.letters for piece in pieces) == word
        assert sum((piece.phones for piece in pieces), ()) == KNOWN[word]


def test_a_word_of_far_too_many_letters_is_passed_over() -> None:
    _, cuts = align([("abcdefgh", ("a",)), ("a", ("a",))])
    assert [len(cut) for cut in cuts] == [0, 1]
    assert align([]) == ([], [])


@settings(deadline=None)
@given(st.lists(st.sampled_from(["ʃ", "k", "s", "a", "e", "o", "m", "t"]), min_size=1, max_size=5))
def test_the_beam_finds_what_a_full_search_finds(speller: Speller, phones: list[str]) -> None:
    written = speller.spell(phones)
    wanted = full_search(speller, tuple(phones))
    assert written in wanted if wanted else written is None


def full_search(speller: Speller, phones: tuple[str, ...]) -> set[str]:
    """Spellings of the highest probability among all ways to cut the word; ties are all given."""
    units = {
        JointUnit(tuple(said.split("_")), letters): number + FIRST_SYMBOL
        for number, name in enumerate(speller._model.symbols_)
        for said, _, letters in [name.partition("}")]
    }
    best: dict[str, float] = {}

    def extend(at: int, context: tuple[int, ...], score: float, letters: str) -> None:
        if at == len(phones):
            if letters:
                total = score + speller._log10_prob(context[-3:], END)
                best[letters] = max(best.get(letters, -1e9), total)
            return
        for unit, token in units.items():
            if phones[at : at + len(unit.phones)] == unit.phones:
                extend(
                    at + len(unit.phones),
                    (*context, token),
                    score + speller._log10_prob(context[-3:], token),
                    letters + unit.letters,
                )

    extend(0, (START,), 0.0, "")
    highest = max(best.values(), default=0.0)
    return {letters for letters, score in best.items() if score > highest - 1e-9}


def test_a_phone_of_no_word_has_no_spelling(speller: Speller) -> None:
    assert speller.spell(("t", "ø")) is None


def test_saved_and_loaded_it_spells_alike(speller: Speller, tmp_path: Path) -> None:
    speller.save(tmp_path)
    again = Speller.load(tmp_path)
    for phones in WORDS[:100]:
        assert again.spell(phones) == speller.spell(phones)


def test_damage_is_told(speller: Speller, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=SPELLING_NAME):
        Speller.load(tmp_path)
    speller.save(tmp_path)
    path = tmp_path / SPELLING_NAME
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(UserError, match=SPELLING_NAME):
        Speller.load(tmp_path)
    path.write_text(whole.replace("}", "?"), encoding="utf-8")
    with pytest.raises(UserError, match="no model of spelling"):
        Speller.load(tmp_path)


def test_marks_of_the_model_in_words_and_phones_do_no_harm() -> None:
    lexicon = Lexicon({"a}b": ("a", "b"), "ab": ("a_", "b"), "ba": ("b", "a")})
    assert Speller.learn(lexicon, seed=0).spell(("b", "a")) == "ba"


def test_nothing_to_learn_from_is_told() -> None:
    with pytest.raises(UserError, match="can be spelled"):
        Speller.learn(Lexicon({"abcdefghij": ("a",)}), seed=0)


def test_many_words_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "MOST_WORDS", 300)
    speller = Speller.learn(KNOWN, seed=0)
    assert speller.spell(("ʃ", "a", "t")) == "schat"
