"""What words cost in the search, and which phones a path holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from letter_words import letter_graph, scores_of, write_letter_text
from numpy.typing import NDArray

from wav2vec_u.graph.search import Found, WordSearch

pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("letters")
    write_letter_text(folder)
    return folder


@pytest.fixture(scope="module")
def searches(folder: Path) -> dict[float, WordSearch]:
    """The same graph with different costs of a word."""
    graph = letter_graph(folder, "graph")
    return {cost: replace(graph, word_cost=cost).open() for cost in (0.0, 1.5, 30.0)}


@pytest.fixture(scope="module")
def phones(searches: dict[float, WordSearch]) -> list[str]:
    return searches[0.0].phones


def best_path(search: WordSearch, scores: NDArray[np.float32]) -> tuple[float, int]:
    """Return what the best path costs, nats, and how many words it has."""
    lattice = search.search(scores)
    assert lattice is not None
    best = lattice.best(1)[0]
    return best.cost, len(best.words)


def find(search: WordSearch, scores: NDArray[np.float32]) -> Found:
    found = search.find(scores)
    assert found is not None
    return found


# --- the cost of a word ---


@pytest.mark.parametrize("said", ["gab", "abe gab bag", "begabbe", " be bag  abe "])
def test_a_path_costs_more_by_the_cost_of_each_of_its_words(
    searches: dict[float, WordSearch], phones: list[str], said: str
) -> None:
    scores = scores_of(phones, said)
    words = [item.word for item in find(searches[0.0], scores).words]
    assert "".join(words) == said.replace(" ", "")
    (free, count), (dear, again) = (best_path(searches[cost], scores) for cost in (0.0, 1.5))
    assert count == again == len(words)
    assert dear - free == pytest.approx(1.5 * count, abs=1e-3)


def test_words_that_cost_much_are_fewer(
    searches: dict[float, WordSearch], phones: list[str]
) -> None:
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(5):
        scores = np.log(rng.dirichlet(np.ones(len(phones)), size=50)).astype(np.float32)
        counts.append([len(find(search, scores).words) for search in searches.values()])
    free, some, few = np.sum(counts, axis=0)
    assert free > some > few


def test_a_pause_costs_no_word(searches: dict[float, WordSearch], phones: list[str]) -> None:
    scores = scores_of(phones, "    ")
    (free, count), (dear, again) = (best_path(searches[cost], scores) for cost in (0.0, 30.0))
    assert (count, again) == (0, 0)
    assert dear == pytest.approx(free, abs=1e-3)


def test_one_long_word_is_cheaper_than_two_short_ones(
    searches: dict[float, WordSearch], phones: list[str]
) -> None:
    # `bebe` is rare in the text, and `be be` does not occur in it; a cost tips the scales.
    scores = scores_of(phones, "bebe")
    assert [item.word for item in find(searches[30.0], scores).words] == ["bebe"]


def test_the_parts_of_an_unknown_word_cost_one_word_together(folder: Path) -> None:
    phones = write_letter_text(folder / "hybrid", ["abe gab xy bag", "gab abe", "bag abe"] * 4)
    graph = letter_graph(folder / "hybrid", "graph", fragments=5)
    free, dear = (replace(graph, word_cost=cost).open() for cost in (0.0, 1.5))
    scores = scores_of(phones, "gay", frames=3)
    for search in (free, dear):
        (item,) = find(search, scores).words
        assert (item.word, item.first, item.end) == ("⟨gay⟩", 0, len(scores))
    (cost, parts), (more, again) = (best_path(search, scores) for search in (free, dear))
    assert parts == again > 1
    assert more - cost == pytest.approx(1.5, abs=1e-3)


def test_phones_are_as_likely_as_if_words_were_free(folder: Path) -> None:
    """Where the beams hold all paths, to the rounding; the best words do depend on the cost."""
    graph = replace(
        letter_graph(folder, "wide"), beam=200.0, lattice_beam=100.0, max_active=100_000
    )
    free, dear = (replace(graph, word_cost=cost).open() for cost in (0.0, 3.0))
    rng = np.random.default_rng(1)
    counts = []
    for _ in range(5):
        scores = np.log(rng.dirichlet(np.ones(len(free.phones)), size=25)).astype(np.float32)
        one, other = find(free, scores), find(dear, scores)
        np.testing.assert_allclose(other.posteriors, one.posteriors, atol=2e-3)
        counts.append([len(one.words), len(other.words)])
    many, few = np.sum(counts, axis=0)
    assert many > few


# --- the phones of a path ---


def path(labels: Sequence[int], starts: Sequence[int]) -> Found:
    begun = np.zeros(len(labels), bool)
    begun[list(starts)] = True
    return Found((), np.array(labels, np.int32), begun, np.zeros((len(labels), 1), np.float32))


@pytest.mark.parametrize(
    ("labels", "starts", "phones"),
    [
        ([3, 3, 3], [0], [(3, 0, 3)]),
        ([3, 3, 3], [0, 1], [(3, 0, 1), (3, 1, 3)]),
        ([3, 3, 3], [0, 1, 2], [(3, 0, 1), (3, 1, 2), (3, 2, 3)]),
        ([0, 0, 4, 1, 1, 0], [0, 2, 3, 5], [(4, 2, 3), (1, 3, 5)]),
        ([2, 0, 0, 2], [0, 1, 3], [(2, 0, 1), (2, 3, 4)]),
        ([0, 0, 0], [0], []),
        ([0, 0, 0, 5], [0, 1, 3], [(5, 3, 4)]),
        ([], [], []),
    ],
    ids=["one", "two alike", "three alike", "pauses", "a pause between", "pause", "pauses", "none"],
)
def test_phones_of_a_path(
    labels: list[int], starts: list[int], phones: list[tuple[int, int, int]]
) -> None:
    assert path(labels, starts).phones() == phones


def test_equal_neighbours_are_two_phones_of_two_words(
    searches: dict[float, WordSearch], phones: list[str]
) -> None:
    # Frames cannot tell where the first `b` ends; the words say that there are two.
    found = find(searches[0.0], scores_of(phones, "gabbag", frames=3))
    assert [item.word for item in found.words] == ["gab", "bag"]
    spoken = found.phones()
    assert [phones[label] for label, _, _ in spoken] == list("gabbag")
    assert spoken[2][2] == spoken[3][1] == found.words[0].end == found.words[1].first
    assert sum(found.starts) == 6
    for label, first, end in spoken:
        assert (found.labels[first:end] == label).all()


def test_pauses_are_labels_and_no_phones(
    searches: dict[float, WordSearch], phones: list[str]
) -> None:
    found = find(searches[0.0], scores_of(phones, " gab  be"))
    assert [phones[label] for label, _, _ in found.phones()] == list("gabbe")
    expected = [phones.index(x) if x != " " else 0 for x in " gab  be" for _ in range(2)]
    assert found.labels.tolist() == expected
    assert np.flatnonzero(found.starts).tolist() == [0, 2, 4, 6, 8, 12, 14]
