"""Words from frames: planted words are found again, with the frames they were planted at."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.lexicon import Lexicon
from wav2vec_u.text.ngram import NgramModel
from wav2vec_u.words.graph import GraphShape, build_graph
from wav2vec_u.words.language_model import write_word_model
from wav2vec_u.words.search import FoundWord, WordSearch

pytest.importorskip("kaldi_decoder", reason="the extra `decode` is not installed")

PHONES = ["<SIL>", "a", "b", "c", "t"]
# `at` begins `atta`; `ca` and `ka` sound alike; `tat` ends and begins with the same phone.
LEXICON = Lexicon(
    {
        "at": ("a", "t"),
        "atta": ("a", "t", "t", "a"),
        "tat": ("t", "a", "t"),
        "ca": ("c", "a"),
        "ka": ("c", "a"),
        "b": ("b",),
    }
)
TEXT = ["at tat ca b", "tat tat at b", "atta ka b", "b ka at", "ca b tat", "at atta tat"] * 3
SHAPE = GraphShape(stay=0.5, silence=0.2)


def make_search(folder: Path, order: int = 2, beam: float = 30.0) -> WordSearch:
    folder.mkdir(exist_ok=True)
    text = folder / "text.txt"
    text.write_text("\n".join(TEXT) + "\n", encoding="utf-8")
    arpa = folder / "words.arpa"
    write_word_model(arpa, text, LEXICON, "en", order=order, max_words=10_000, seed=0)
    build_graph(folder, arpa, order, LEXICON, PHONES, SHAPE)
    return WordSearch(folder, LEXICON, beam, 10_000)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> WordSearch:
    return make_search(tmp_path_factory.mktemp("graph"))


def frames_of(
    words: Sequence[str], lengths: Sequence[int], pauses: Sequence[int]
) -> tuple[np.ndarray, list[FoundWord]]:
    """Say words, every phone for so many frames, with pauses before, between and after."""
    rows: list[int] = [0] * pauses[0]
    found = []
    length = itertools.cycle(lengths)
    for word, pause in zip(words, pauses[1:], strict=True):
        first = len(rows)
        for phone in LEXICON[word]:
            rows += [PHONES.index(phone)] * next(length)
        found.append(FoundWord(word, first, len(rows)))
        rows += [0] * pause
    scores = np.full((len(rows), len(PHONES)), -9.0, dtype=np.float32)
    scores[np.arange(len(rows)), rows] = -0.1
    return scores, found


@pytest.mark.parametrize(
    ("words", "lengths", "pauses"),
    [
        (["at", "tat", "b"], [2, 3], [0, 0, 0, 0]),
        (["tat", "at"], [3], [4, 2, 1]),
        (["atta", "b", "tat"], [2, 1, 4], [0, 3, 0, 2]),
        (["b"], [1], [0, 0]),
        (["at", "b", "at"], [1], [0, 0, 0, 0]),
    ],
)
def test_planted_words_are_found_at_their_frames(
    search: WordSearch, words: list[str], lengths: list[int], pauses: list[int]
) -> None:
    scores, planted = frames_of(words, lengths, pauses)
    found = search.find(scores)
    assert found is not None
    assert [item.word for item in found] == words
    for item, truth in zip(found, planted, strict=True):
        # Between two equal phones without a pause, any frame may be the boundary.
        assert abs(item.first - truth.first) <= max(lengths)
        assert abs(item.end - truth.end) <= max(lengths)
    if "tat" not in words:
        assert found == planted


def test_what_sounds_alike_is_told_apart_by_the_text(search: WordSearch) -> None:
    for words in (["atta", "ka", "b"], ["tat", "ca", "b"], ["b", "ka", "at"]):
        scores, _ = frames_of(words, [2], [0] * (len(words) + 1))
        found = search.find(scores)
        assert found is not None
        assert [item.word for item in found] == words


def test_the_best_path_is_that_of_all_word_sequences(search: WordSearch, tmp_path: Path) -> None:
    """Slow oracle: every sequence of up to three words, every way of lasting."""
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXT) + "\n", encoding="utf-8")
    arpa = tmp_path / "words.arpa"
    write_word_model(arpa, text, LEXICON, "en", order=2, max_words=10_000, seed=0)
    names = list(LEXICON)
    model = NgramModel.read_arpa(arpa, names)
    rng = np.random.default_rng(4)
    for _ in range(6):
        scores = np.log(rng.dirichlet(np.full(len(PHONES), 0.4), size=6)).astype(np.float32)
        costs = {}
        for count in (1, 2, 3):
            for words in itertools.product(names, repeat=count):
                ids = np.array([names.index(word) for word in words])
                cost = -model.log10_prob(ids) * math.log(10) + cheapest(words, scores)
                costs[words] = cost
        best = min(costs.values())
        found = search.find(scores)
        assert found is not None
        assert len(found) <= 3
        assert costs[tuple(item.word for item in found)] == pytest.approx(best, abs=1e-3)


def cheapest(words: Sequence[str], scores: np.ndarray) -> float:
    """Cost of the best way to say words in just these frames, pauses at will between them."""
    pause, none = -math.log(SHAPE.silence), -math.log(1 - SHAPE.silence)
    best = math.inf
    for silent in itertools.product([False, True], repeat=len(words) + 1):
        phones = [0] if silent[0] else []
        for word, after in zip(words, silent[1:], strict=True):
            phones += [PHONES.index(phone) for phone in LEXICON[word]] + ([0] if after else [])
        cost = sum(pause if item else none for item in silent)
        cost += len(phones) * -math.log(1 - SHAPE.stay)
        best = min(best, cost + lasting(phones, scores))
    return best


def lasting(phones: Sequence[int], scores: np.ndarray) -> float:
    """Viterbi over how long each phone lasts."""
    table = np.full(len(phones), math.inf)
    for t, row in enumerate(scores):
        before = table.copy()
        for place, phone in enumerate(phones):
            stay = before[place] - math.log(SHAPE.stay)
            new = (0.0 if t == 0 else math.inf) if place == 0 else before[place - 1]
            table[place] = min(stay, new) - row[phone]
    return float(table[-1])


def test_frames_too_few_for_a_word_are_a_pause(tmp_path: Path) -> None:
    lexicon = Lexicon({"at": ("a", "t")})
    text = tmp_path / "text.txt"
    text.write_text("at at\nat\n", encoding="utf-8")
    write_word_model(tmp_path / "a", text, lexicon, "en", order=2, max_words=100, seed=0)
    build_graph(tmp_path, tmp_path / "a", 2, lexicon, PHONES, SHAPE)
    search = WordSearch(tmp_path, lexicon, 10.0, 100)
    assert search.find(np.zeros((1, len(PHONES)), dtype=np.float32)) == []
    assert search.find(np.zeros((0, len(PHONES)), dtype=np.float32)) == []


@pytest.mark.parametrize(("lost", "beams"), [(0, [7.0]), (2, [7.0, 14.0, 28.0])])
def test_a_beam_that_loses_every_path_is_widened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, beams: list[float]
) -> None:
    search = make_search(tmp_path, beam=7.0)
    used = losing(search, lost, monkeypatch)
    scores, planted = frames_of(["ca"], [3], [0, 0])
    found = search.find(scores)
    assert found is not None
    assert [(item.first, item.end) for item in found] == [(planted[0].first, planted[0].end)]
    assert used == beams


def test_an_utterance_that_every_beam_loses_has_no_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = make_search(tmp_path)
    losing(search, 99, monkeypatch)
    assert search.find(frames_of(["ca"], [3], [0, 0])[0]) is None


def losing(search: WordSearch, times: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let the decoder lose all paths so many times; return the list of beams that it will use."""
    decoder = search._decoder
    used: list[float] = []

    class Losing(decoder.FasterDecoder):  # type: ignore[misc, name-defined]
        def __init__(self, graph: object, options: Any) -> None:
            super().__init__(graph, options)
            used.append(options.beam)

        def reached_final(self) -> bool:
            return len(used) > times and bool(super().reached_final())

    monkeypatch.setattr(decoder, "FasterDecoder", Losing)
    return used


def test_a_graph_of_another_lexicon_is_refused(tmp_path: Path) -> None:
    make_search(tmp_path)
    with pytest.raises(UserError, match="run again"):
        WordSearch(tmp_path, Lexicon({"at": ("a", "t")}), 10.0, 100)
    (tmp_path / "graph.fst").unlink()
    with pytest.raises(UserError, match="no decoding graph"):
        WordSearch(tmp_path, LEXICON, 10.0, 100)


def test_words_of_other_phones_are_left_out(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("at xe\nat\n", encoding="utf-8")
    lexicon = Lexicon({"at": ("a", "t"), "xe": ("x", "e")})
    write_word_model(tmp_path / "a", text, lexicon, "en", order=2, max_words=100, seed=0)
    figures = build_graph(tmp_path, tmp_path / "a", 2, lexicon, PHONES, SHAPE)
    assert (figures["words"], figures["words_left_out"]) == (1, 1)
    with pytest.raises(UserError, match="no word of the lexicon"):
        build_graph(tmp_path, tmp_path / "a", 2, lexicon, ["<SIL>", "q"], SHAPE)


def test_without_the_extra_the_user_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_search(tmp_path)
    for name in ("kaldifst", "kaldi_decoder"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'wav2vec-u\[decode\]'"):
        WordSearch(tmp_path, LEXICON, 10.0, 100)
    with pytest.raises(UserError, match=r"pip install 'wav2vec-u\[decode\]'"):
        build_graph(tmp_path, tmp_path / "words.arpa", 2, LEXICON, PHONES, SHAPE)


# -- the word model


def test_sentences_are_cut_at_words_without_a_pronunciation(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("at UNKNOWN b\nAt b!\n\nb at\n", encoding="utf-8")
    lexicon = Lexicon({"at": ("a", "t"), "b": ("b",)})
    used = write_word_model(tmp_path / "cut", text, lexicon, "en", order=2, max_words=99, seed=0)
    assert used == 6
    model = NgramModel.read_arpa(tmp_path / "cut", ["at", "b"])
    pieces = [np.array(piece) for piece in ([0], [1], [0, 1], [1, 0])]
    expected = NgramModel(2).fit(pieces, ["at", "b"])
    for sentence in pieces:
        assert model.log10_prob(sentence) == pytest.approx(expected.log10_prob(sentence), abs=1e-5)


def test_a_long_text_is_thinned_out(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("at b\n" * 500 + "b b b at\n" * 500, encoding="utf-8")
    lexicon = Lexicon({"at": ("a", "t"), "b": ("b",)})

    def written(seed: int, max_words: int) -> str:
        path = tmp_path / "model"
        used = write_word_model(path, text, lexicon, "en", order=2, max_words=max_words, seed=seed)
        assert used == min(max_words, 3_000)
        return path.read_text(encoding="utf-8")

    assert written(0, 300) == written(0, 300)
    assert written(0, 300) != written(1, 300)
    assert written(0, 10**6) == written(1, 10**6)


def test_a_text_of_unknown_words_is_a_users_error(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("nothing here\n", encoding="utf-8")
    with pytest.raises(UserError, match="no word that the lexicon knows"):
        write_word_model(tmp_path / "a", text, LEXICON, "en", order=2, max_words=99, seed=0)
