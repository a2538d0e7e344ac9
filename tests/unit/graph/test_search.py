"""Words from frames: planted words are found again, with the frames they were planted at."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from word_graphs import LEXICON, PHONES, SILENCE_BETWEEN, TEXT, make_graph, open_search, write_model

import wav2vec_u.graph.search as search_module
from wav2vec_u.graph.beam_search import search_lattice
from wav2vec_u.graph.build import build_graph
from wav2vec_u.graph.lattice import Lattice
from wav2vec_u.graph.search import Found, FoundWord, WordSearch
from wav2vec_u.graph.transducer import Transducer
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.lexicon import Lexicon, read_lexicon
from wav2vec_u.text.ngram import NgramModel

pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")

SILENCE = 0


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> WordSearch:
    folder = tmp_path_factory.mktemp("graph")
    make_graph(folder)
    return open_search(folder)


def find(search: WordSearch, scores: np.ndarray) -> Found:
    """Find the words of frames that have some."""
    found = search.find(scores)
    assert found is not None
    return found


def names(found: Found) -> list[str]:
    return [item.word for item in found.words]


def frames_of(
    words: Sequence[str], lengths: Sequence[int], pauses: Sequence[int]
) -> tuple[np.ndarray, Found]:
    """Say words, every phone for so many frames, with pauses before, between and after."""
    rows: list[int] = [SILENCE] * pauses[0]
    starts = [0] if rows else []
    found = []
    length = itertools.cycle(lengths)
    for word, pause in zip(words, pauses[1:], strict=True):
        first = len(rows)
        for phone in LEXICON[word]:
            starts.append(len(rows))
            rows += [PHONES.index(phone)] * next(length)
        found.append(FoundWord(word, first, len(rows)))
        if pause:
            starts.append(len(rows))
        rows += [SILENCE] * pause
    scores = np.full((len(rows), len(PHONES)), -9.0, dtype=np.float32)
    scores[np.arange(len(rows)), rows] = -0.1
    begun = np.zeros(len(rows), bool)
    begun[starts] = True
    sure = np.eye(len(PHONES), dtype=np.float32)[rows]
    return scores, Found(tuple(found), np.array(rows, np.int32), begun, sure)


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
    found = find(search, scores)
    assert names(found) == words
    for item, truth in zip(found.words, planted.words, strict=True):
        # Between two equal phones without a pause, any frame may be the boundary.
        assert abs(item.first - truth.first) <= max(lengths)
        assert abs(item.end - truth.end) <= max(lengths)
    if "tat" not in words:
        assert found.words == planted.words


@pytest.mark.parametrize(
    ("words", "lengths", "pauses"),
    [
        (["at", "b", "ca"], [2, 3], [0, 0, 1, 0]),
        (["tat", "at"], [3], [4, 2, 1]),
        (["atta", "b", "tat"], [2, 1, 4], [0, 3, 0, 2]),
        (["b"], [1], [0, 0]),
    ],
)
def test_every_frame_has_the_phone_it_was_planted_with(
    search: WordSearch, words: list[str], lengths: list[int], pauses: list[int]
) -> None:
    scores, planted = frames_of(words, lengths, pauses)
    found = find(search, scores)
    assert found.labels.dtype == np.int32
    assert found.starts.dtype == np.bool_
    np.testing.assert_array_equal(found.labels, planted.labels)
    spoken = found.phones()
    # Equal neighbours are two phones: `atta` has four, and none is a pause.
    assert [PHONES[label] for label, _, _ in spoken] == [
        phone for word in words for phone in LEXICON[word]
    ]
    assert sum(end - first for _, first, end in spoken) == int((planted.labels != SILENCE).sum())
    for label, first, end in spoken:
        assert (found.labels[first:end] == label).all()
    if "atta" not in words:  # inside it any frame may be the boundary
        np.testing.assert_array_equal(found.starts, planted.starts)
        assert spoken == planted.phones()


def test_what_sounds_alike_is_told_apart_by_the_text(search: WordSearch) -> None:
    for words in (["atta", "ka", "b"], ["tat", "ca", "b"], ["b", "ka", "at"]):
        scores, _ = frames_of(words, [2], [0] * (len(words) + 1))
        assert names(find(search, scores)) == words


def test_a_word_is_heard_with_confidence_where_no_other_is_possible(search: WordSearch) -> None:
    scores, _ = frames_of(["tat", "ca", "b"], [2], [0, 0, 0, 0])
    sure = {item.word: item.confidence for item in find(search, scores).words}
    assert sure["tat"] > 0.9
    assert sure["b"] > 0.9
    assert 0.3 < sure["ca"] < 0.9, "`ka` sounds alike"
    unsure = find(search, 0.2 * scores).words
    assert all(item.confidence < 0.9 for item in unsure if item.word == "tat")


@pytest.mark.parametrize(
    ("word_cost", "scale", "stay"), [(0.0, 1.0, 0.5), (1.5, 1.0, 0.6), (0.5, 0.4, 0.2)]
)
def test_the_best_path_is_that_of_all_word_sequences(
    tmp_path: Path, word_cost: float, scale: float, stay: float
) -> None:
    """Slow oracle: every sequence of up to three words, every way of lasting."""
    make_graph(tmp_path)
    search = open_search(tmp_path, word_cost=word_cost, scale=scale, stay=stay)
    words_known = list(LEXICON)
    model = NgramModel.read_arpa(tmp_path / "words.arpa", words_known)
    rng = np.random.default_rng(4)
    for _ in range(6):
        scores = np.log(rng.dirichlet(np.full(len(PHONES), 0.4), size=6)).astype(np.float32)
        costs = {}
        for count in (1, 2, 3):
            for words in itertools.product(words_known, repeat=count):
                ids = np.array([words_known.index(word) for word in words])
                cost = -model.log10_prob(ids) * math.log(10)
                cost += cheapest(words, scale * scores, stay) + count * word_cost
                costs[words] = cost
        best = min(costs.values())
        found = find(search, scores)
        assert len(found.words) <= 3
        assert costs[tuple(names(found))] == pytest.approx(best, abs=1e-3)


def cheapest(words: Sequence[str], scores: np.ndarray, stay: float) -> float:
    """Cost of the best way to say words in just these frames, pauses at will between them."""
    pause, none = -math.log(SILENCE_BETWEEN), -math.log(1 - SILENCE_BETWEEN)
    best = math.inf
    for silent in itertools.product([False, True], repeat=len(words) + 1):
        phones = [SILENCE] if silent[0] else []
        for word, after in zip(words, silent[1:], strict=True):
            phones += [PHONES.index(phone) for phone in LEXICON[word]]
            phones += [SILENCE] if after else []
        cost = sum(pause if item else none for item in silent)
        cost += len(phones) * -math.log(1 - stay)
        best = min(best, cost + lasting(phones, scores, stay))
    return best


def lasting(phones: Sequence[int], scores: np.ndarray, stay: float) -> float:
    """Viterbi over how long each phone lasts."""
    table = np.full(len(phones), math.inf)
    for t, row in enumerate(scores):
        before = table.copy()
        for place, phone in enumerate(phones):
            again = before[place] - math.log(stay)
            new = (0.0 if t == 0 else math.inf) if place == 0 else before[place - 1]
            table[place] = min(again, new) - row[phone]
    return float(table[-1])


def test_frames_too_few_for_a_word_are_a_pause(tmp_path: Path) -> None:
    make_graph(tmp_path, ["at at", "at"], Lexicon({"at": ("a", "t")}))
    search = open_search(tmp_path, beam=10.0)
    alone = find(search, np.zeros((1, len(PHONES)), dtype=np.float32))
    assert (alone.words, alone.phones()) == ((), [])
    assert alone.labels.tolist() == [SILENCE]
    nothing = find(search, np.zeros((0, len(PHONES)), dtype=np.float32))
    assert (nothing.words, nothing.phones()) == ((), [])
    assert nothing.labels.shape == nothing.starts.shape == (0,)


@pytest.mark.parametrize(("lost", "beams"), [(0, [7.0]), (2, [7.0, 14.0, 28.0])])
def test_a_beam_that_loses_every_path_is_widened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, beams: list[float]
) -> None:
    make_graph(tmp_path)
    used = losing(lost, monkeypatch)
    scores, planted = frames_of(["ca"], [3], [0, 0])
    found = find(open_search(tmp_path, beam=7.0), scores)
    (item,), (truth,) = found.words, planted.words
    assert found.posteriors.sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert (found.posteriors.argmax(axis=1) == found.labels).all()
    assert (item.first, item.end) == (truth.first, truth.end)
    assert used == beams


def test_an_utterance_that_every_beam_loses_has_no_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_graph(tmp_path)
    losing(99, monkeypatch)
    assert open_search(tmp_path).find(frames_of(["ca"], [3], [0, 0])[0]) is None


def losing(times: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let so many searches lose all paths; return the list of beams that will be used."""
    used: list[float] = []

    def lose(
        graph: Transducer, scores: np.ndarray, beam: float, lattice_beam: float, max_active: int
    ) -> Lattice | None:
        used.append(beam)
        if len(used) <= times:
            return None
        return search_lattice(graph, scores, beam, lattice_beam, max_active)

    monkeypatch.setattr(search_module, "search_lattice", lose)
    return used


def test_a_folder_without_a_graph_is_refused(tmp_path: Path) -> None:
    make_graph(tmp_path)
    (tmp_path / "graph" / "graph.npz").unlink()
    with pytest.raises(UserError, match="no decoding graph"):
        open_search(tmp_path)


def test_a_graph_keeps_the_lexicon_that_it_was_built_from(tmp_path: Path) -> None:
    make_graph(tmp_path)
    kept = read_lexicon(tmp_path / "graph")
    assert {word: kept[word] for word in kept} == {word: LEXICON[word] for word in LEXICON}
    (tmp_path / "graph" / "lexicon.tsv").unlink()
    with pytest.raises(UserError, match="the lexicon cannot be read"):
        open_search(tmp_path)


@pytest.mark.parametrize("damaged", ["lexicon.tsv", "outputs.json"])
@pytest.mark.parametrize("content", [b"\xff{", b"{"])
def test_a_damaged_graph_is_a_users_error(tmp_path: Path, damaged: str, content: bytes) -> None:
    make_graph(tmp_path)
    (tmp_path / "graph" / damaged).write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged|is missing or damaged|is not UTF-8"):
        open_search(tmp_path)


def test_words_of_other_phones_are_left_out(tmp_path: Path) -> None:
    lexicon = Lexicon({"at": ("a", "t"), "xe": ("x", "e")})
    arpa = write_model(tmp_path / "a", ["at xe", "at"], lexicon)
    figures = build_graph(tmp_path, arpa, 2, lexicon, PHONES, SILENCE_BETWEEN)
    assert (figures["words"], figures["words_left_out"], figures["fragments"]) == (1, 1, 0)
    with pytest.raises(UserError, match="no word of the lexicon"):
        build_graph(tmp_path, arpa, 2, lexicon, ["<SIL>", "q"], SILENCE_BETWEEN)


def test_without_the_extra_the_user_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaldifst", None)
    arpa = write_model(tmp_path / "words.arpa", TEXT, LEXICON)
    with pytest.raises(UserError, match=r"pip install 'wav2vec-u\[decode\]'"):
        build_graph(tmp_path, arpa, 2, LEXICON, PHONES, SILENCE_BETWEEN)
