"""Unknown words: written in fragments, learned from rare words, and found as their phones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2vec_u.graph.build import build_graph
from wav2vec_u.graph.fragments import LONGEST, Fragments, goes_on, is_fragment, join
from wav2vec_u.graph.language_model import RARE_COUNT, write_word_model
from wav2vec_u.text.lexicon import Lexicon, read_lexicon

PHONES = ["a", "b", "c", "t", "x"]
phone_sequences = st.lists(st.sampled_from(PHONES), min_size=1, max_size=9).map(tuple)


@given(st.lists(phone_sequences, max_size=6), phone_sequences, st.integers(0, 20))
def test_every_word_can_be_put_together_and_only_its_last_fragment_ends_it(
    rare: list[tuple[str, ...]], word: tuple[str, ...], count: int
) -> None:
    fragments = Fragments(rare, PHONES, count)
    lexicon = fragments.lexicon()
    names = fragments.split(word)
    assert tuple(phone for name in names for phone in lexicon[name]) == word
    assert [goes_on(name) for name in names] == [True] * (len(names) - 1) + [False]
    assert all(is_fragment(name) for name in lexicon)
    assert max(len(lexicon[name]) for name in lexicon) <= LONGEST
    assert len(lexicon) <= 2 * (len(PHONES) + count)
    assert join(names) == "⟨" + "".join(word) + "⟩"


def test_what_is_frequent_in_rare_words_is_one_fragment() -> None:
    rare = [("b", "a", "t"), ("b", "a", "c"), ("x", "b", "a")]
    assert Fragments(rare, PHONES, 1).split(("c", "b", "a")) == ["⟨c⟩+", "⟨b_a⟩"]
    assert Fragments(rare, PHONES, 0).split(("b", "a")) == ["⟨b⟩+", "⟨a⟩"]


# Frequent words and one rare one; `xaxc` has no pronunciation.
WORDS = Lexicon({"at": ("a", "t"), "bat": ("b", "a", "t"), "cab": ("c", "a", "b")})
TEXT = ["at bat at"] * 40 + ["bat cab at"] * RARE_COUNT + ["at xaxc bat"] * 30


def write_model(folder: Path, fragments: int, seed: int = 0) -> tuple[Path, Lexicon]:
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "text.txt"
    text.write_text("\n".join(TEXT) + "\n", encoding="utf-8")
    path = folder / "words.arpa"
    lexicon = write_word_model(
        path, text, WORDS, "en", order=2, max_words=10_000, fragments=fragments, seed=seed
    )
    return path, lexicon


def test_fragments_stand_where_unknown_words_stood(tmp_path: Path) -> None:
    path, lexicon = write_model(tmp_path, 10)
    assert list(lexicon)[: len(WORDS)] == list(WORDS), "words keep their numbers"
    bigrams = [line.split()[1:3] for line in path.read_text().split("\\2-grams:")[1].splitlines()]
    pairs = {tuple(pair) for pair in bigrams if len(pair) == 2}
    # What is drawn for `xaxc` is the form of the only rare word.
    assert ("at", "⟨c_a_b⟩") in pairs
    assert ("⟨c_a_b⟩", "bat") in pairs
    assert ("bat", "⟨c_a_b⟩") in pairs, "the rare word itself, in half of its places"
    assert ("bat", "cab") in pairs
    assert not any("⟨" in first and "b_a_t" in first for first, _ in pairs), "bat is frequent"


def test_without_fragments_there_are_words_alone(tmp_path: Path) -> None:
    path, lexicon = write_model(tmp_path, 0)
    assert list(lexicon) == list(WORDS)
    assert "⟨" not in path.read_text()


def test_the_same_seed_writes_the_same_model(tmp_path: Path) -> None:
    first, _ = write_model(tmp_path / "a", 10)
    again, _ = write_model(tmp_path / "b", 10)
    other, _ = write_model(tmp_path / "c", 10, seed=1)
    assert first.read_text() == again.read_text()
    assert first.read_text() != other.read_text()


def test_a_planted_unknown_word_is_found_as_its_phones(tmp_path: Path) -> None:
    pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")
    from wav2vec_u.graph.search import WordSearch

    path, lexicon = write_model(tmp_path, 10)
    outputs = ["<SIL>", *PHONES]
    figures = build_graph(tmp_path, path, 2, lexicon, outputs, silence=0.2)
    assert figures["words"] == len(WORDS)
    assert figures["fragments"] == len(lexicon) - len(WORDS) - figures["words_left_out"]
    assert list(read_lexicon(tmp_path)) == list(lexicon)
    said = [["a", "t"], ["c", "a", "c", "t", "a"], ["b", "a", "t"]]
    rows = [outputs.index(phone) for word in said for phone in word for _ in range(3)]
    scores = np.full((len(rows), len(outputs)), -30.0, dtype=np.float32)
    scores[np.arange(len(rows)), rows] = 0.0
    found = WordSearch(tmp_path, 60.0, 8.0, 4000, stay=0.5).find(scores)
    assert found is not None
    first, unknown, last = found.words
    assert (first.word, first.first, first.end) == ("at", 0, 6)
    # Where an unknown word ends, so small a text cannot tell: `bat` may be `b` and `at`.
    assert (unknown.word, last.word) in [("⟨cacta⟩", "bat"), ("⟨cactab⟩", "at")]
    assert (unknown.first, unknown.end, last.end) == (6, last.first, 30)
    phones = [label for label, _, _ in found.phones()]
    assert phones == [outputs.index(phone) for word in said for phone in word]
