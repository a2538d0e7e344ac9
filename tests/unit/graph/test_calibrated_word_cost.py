"""A word's cost, found by how long the words of the text are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from letter_words import letter_graph, write_letter_text
from numpy.typing import NDArray

from wav2vec_u.graph import word_cost
from wav2vec_u.graph.parallel import SearchSettings, find_all
from wav2vec_u.graph.search import Found, FoundWord
from wav2vec_u.graph.word_cost import (
    COSTS,
    SAMPLE,
    calibrate_word_cost,
    places_to_sample,
)

pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")

_Scores = NDArray[np.float32]


def found(phones: int, words: int) -> Found:
    return Found(
        tuple(FoundWord("w", 0, 1) for _ in range(words)),
        np.ones(phones, np.int32),
        np.ones(phones, bool),
        np.zeros((phones, 2), np.float32),
    )


@pytest.mark.parametrize(
    ("wanted", "cost"),
    [
        (2.0, 0.0),
        (3.0, 0.0),
        (3.25, 0.25),
        (3.5, 0.5),
        (4.0, 1.0),
        (5.0, 1.5),
        (6.0, 2.0),
        (99.0, 4.0),
    ],
)
def test_between_two_costs_on_a_straight_line(
    monkeypatch: pytest.MonkeyPatch, wanted: float, cost: float
) -> None:
    """Words of 3, 4, 6, 7 and 8 phones at the costs that are tried."""
    lengths = dict(zip(COSTS, (3, 4, 6, 7, 8), strict=True))

    def find(
        settings: SearchSettings, scores: Sequence[_Scores], threads: int
    ) -> Iterator[Found | None]:
        yield from (found(lengths[settings.word_cost], 1), None, found(0, 0))
        yield found(2 * lengths[settings.word_cost], 2)

    monkeypatch.setattr(word_cost, "find_all", find)
    settings = SearchSettings(Path("graph"), 9.0, 9.0, 4000, word_cost=7.0)
    assert calibrate_word_cost(settings, [], wanted, threads=1) == pytest.approx(cost)


def test_words_that_are_never_found_cost_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cost, "find_all", lambda *_: iter([None, found(0, 0)]))
    settings = SearchSettings(Path("graph"), 9.0, 9.0, 4000)
    assert calibrate_word_cost(settings, [], 4.0, threads=1) == COSTS[-1]


def test_words_are_as_long_as_is_wanted(tmp_path: Path) -> None:
    phones = write_letter_text(tmp_path, ["abe gab bag bebe", "gab be abegab", "bag abe be"] * 4)
    graph = letter_graph(tmp_path, "graph")
    rng = np.random.default_rng(0)
    scores = [
        np.log(rng.dirichlet(np.full(len(phones), 0.5), size=60)).astype(np.float32)
        for _ in range(12)
    ]

    def length(cost: float) -> float:
        items = [item for item in find_all(replace(graph, word_cost=cost), scores, 1) if item]
        phones = sum(len(item.phones()) for item in items)
        return phones / sum(len(item.words) for item in items)

    shortest, longest = length(COSTS[0]), length(COSTS[-1])
    assert longest > 1.1 * shortest
    for share in (0.3, 0.7):
        wanted = shortest + share * (longest - shortest)
        cost = calibrate_word_cost(graph, scores, wanted, threads=1)
        assert length(cost) == pytest.approx(wanted, rel=0.05)


def test_the_test_is_not_listened_to() -> None:
    splits = ["train", "test", "train", "dev"] * 900
    places = places_to_sample(splits)
    assert len(places) == SAMPLE
    assert all(splits[i] == "train" for i in places)
    assert places[0] < 20 and places[-1] > 3_500  # from everywhere
    assert places_to_sample(["test", "test"]) == [0, 1]
    assert places_to_sample([]) == []
