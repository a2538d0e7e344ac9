"""Posteriors of a lattice against all of its paths, and of a search against all word sequences."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from word_graphs import LEXICON, PHONES, SILENCE_BETWEEN, STAY, make_graph, open_search

from wav2vec_u.graph.lattice import LINK, Lattice, WordPosteriors
from wav2vec_u.graph.search import Found
from wav2vec_u.text.ngram import NgramModel
from wav2vec_u.text.ngram_table import END, FIRST_SYMBOL, START

OUTPUTS = 3


def random_lattice(seed: int, n_frames: int) -> Lattice:
    """Layers of tokens, one for every frame, with links inside a layer that use no frame."""
    rng = np.random.default_rng(seed)
    layers = [[0]]
    for _ in range(n_frames):
        first = layers[-1][-1] + 1
        layers.append(list(range(first, first + int(rng.integers(1, 4)))))
    links = []
    for before, after in itertools.pairwise(layers):
        for target in after:
            for source in rng.choice(before, size=int(rng.integers(1, 3))).tolist():
                label = int(rng.integers(1, 3 * OUTPUTS + 1))
                links.append((rng.normal(), source, target, label, int(rng.integers(0, 3))))
        if len(after) > 1 and rng.random() < 0.5:
            links.append((rng.normal(), after[0], after[1], 0, int(rng.integers(0, 3))))
    ends = np.array(layers[-1], np.int32)
    return Lattice(np.array(links, LINK), ends, rng.random(len(ends)))


def all_paths(lattice: Lattice, n_frames: int) -> Iterator[tuple[float, list[int], list[int]]]:
    """Go through every path from the start to an end: its cost, labels and words."""

    def walk(
        token: int, cost: float, labels: list[int], words: list[int]
    ) -> Iterator[tuple[float, list[int], list[int]]]:
        if token in lattice.ends and len(labels) == n_frames:
            (place,) = np.flatnonzero(lattice.ends == token)
            yield cost + lattice.end_costs[place], labels, words
        for link in lattice.links:
            if link["source"] == token:
                said = [*labels, link["label"]] if link["label"] else labels
                spoken = [*words, link["word"]] if link["word"] else words
                yield from walk(link["target"], cost + link["cost"], said, spoken)

    return walk(0, 0.0, [], [])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 100_000), n_frames=st.integers(1, 5), scale=st.floats(0.1, 1.0))
def test_posteriors_are_those_of_all_paths(seed: int, n_frames: int, scale: float) -> None:
    lattice = random_lattice(seed, n_frames)
    wanted = np.zeros((n_frames, OUTPUTS))
    for cost, labels, _ in all_paths(lattice, n_frames):
        for frame, label in enumerate(labels):
            wanted[frame, (label - 1) % OUTPUTS] += math.exp(-scale * cost)
    found = lattice.posteriors(n_frames, OUTPUTS, scale)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted / wanted.sum(axis=1, keepdims=True), atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 100_000), n_frames=st.integers(1, 5), scale=st.floats(0.1, 1.0))
def test_words_are_as_likely_as_all_paths_that_say_them(
    seed: int, n_frames: int, scale: float
) -> None:
    lattice = random_lattice(seed, n_frames)
    wanted: Counter[int] = Counter()
    total = 0.0
    for cost, _, words in all_paths(lattice, n_frames):
        total += math.exp(-scale * cost)
        for word in words:
            wanted[word] += math.exp(-scale * cost)
    heard = lattice.words_heard(scale)
    for word in (1, 2):
        assert heard.probs[heard.words == word].sum() == pytest.approx(wanted[word] / total)
        certain = min(1.0, wanted[word] / total)
        assert heard.of(word, 0, n_frames) == pytest.approx(certain)
    assert heard.of(1, n_frames + 10, n_frames + 20) == 0.0


def test_a_word_is_looked_for_where_it_is_said() -> None:
    heard = WordPosteriors(
        np.array([1, 1, 2, 1], np.int32),
        np.array([2, 10, 10, 12]),
        np.array([0.5, 0.25, 0.75, 0.25]),
    )
    assert heard.of(1, 10, 14) == 0.5
    assert heard.of(2, 10, 14) == 0.75
    assert heard.of(2, 13, 14) == 0.75, "another path may begin it a little earlier"
    assert heard.of(2, 14, 16) == 0.0
    assert heard.of(1, 0, 20) == 1.0
    assert heard.of(3, 0, 20) == 0.0


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 100_000), n_frames=st.integers(1, 5), number=st.integers(1, 6))
def test_the_best_paths_are_the_cheapest_of_different_words(
    seed: int, n_frames: int, number: int
) -> None:
    lattice = random_lattice(seed, n_frames)
    cheapest: dict[tuple[int, ...], tuple[float, list[int]]] = {}
    for cost, labels, words in sorted(all_paths(lattice, n_frames)):
        cheapest.setdefault(tuple(words), (cost, labels))
    wanted = sorted((cost, list(words), labels) for words, (cost, labels) in cheapest.items())
    found = lattice.best(number)
    assert len(found) == min(number, len(wanted))
    for path, (cost, words, labels) in zip(found, wanted, strict=False):
        assert path.cost == pytest.approx(cost)
        assert (path.words.tolist(), path.labels.tolist()) == (words, labels)


def test_what_the_search_holds_for_likely_is_so_of_all_word_sequences(tmp_path: Path) -> None:
    """Slow oracle: every sequence of up to three words, every pause, every way of lasting."""
    pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")
    make_graph(tmp_path)
    search = open_search(tmp_path, beam=60.0, lattice_beam=40.0)
    words_known = list(LEXICON)
    model = NgramModel.read_arpa(tmp_path / "words.arpa", words_known)
    pause, none = math.log(SILENCE_BETWEEN), math.log(1 - SILENCE_BETWEEN)
    rng = np.random.default_rng(2)
    for _ in range(3):
        scores = np.log(rng.dirichlet(np.full(len(PHONES), 0.6), size=5)).astype(np.float32)
        wanted = np.zeros(scores.shape)
        for count in (0, 1, 2, 3):
            for words in itertools.product(words_known, repeat=count):
                ids = np.array([words_known.index(word) for word in words], int)
                said = math.log(in_graph(model, ids.tolist()))
                for silent in itertools.product([False, True], repeat=count + 1):
                    phones = [0] if silent[0] else []
                    for word, after in zip(words, silent[1:], strict=True):
                        phones += [PHONES.index(phone) for phone in LEXICON[word]]
                        phones += [0] if after else []
                    log_prob = said + sum(pause if item else none for item in silent)
                    wanted += math.exp(log_prob) * lasting(phones, scores)
        lattice, found = search.search(scores), search.find(scores)
        assert lattice is not None
        assert found is not None
        np.testing.assert_allclose(
            lattice.posteriors(*scores.shape, 1.0),
            wanted / wanted.sum(axis=1, keepdims=True),
            atol=1e-3,
        )
        halved = lattice.posteriors(*scores.shape, 0.5)
        np.testing.assert_array_equal(found.posteriors, halved)


def in_graph(model: NgramModel, words: list[int]) -> float:
    """Probability of words in a graph of bigrams, where what was seen may be backed off, too."""
    base = len(model.symbols_) + FIRST_SYMBOL
    unigrams, bigrams = model.tables_
    tokens = [START, *(word + FIRST_SYMBOL for word in words), END]
    total = 1.0
    for before, after in itertools.pairwise(tokens):
        (place,), (context,) = (unigrams.find(np.array([token])) for token in (after, before))
        log10 = unigrams.log10_backoffs[context] + unigrams.log10_probs[place]
        probability = 10.0**log10
        (seen,) = bigrams.find(np.array([before * base + after]))
        if seen >= 0:
            probability += 10.0 ** bigrams.log10_probs[seen]
        total *= probability
    return total


def lasting(phones: list[int], scores: np.ndarray) -> np.ndarray:
    """Sum of the probabilities of all ways in which phones last, by frame and output."""
    total = np.zeros(scores.shape)
    if not 0 < len(phones) <= len(scores):
        return total
    frames = len(scores)
    for cuts in itertools.combinations(range(1, frames), len(phones) - 1):
        bounds = [0, *cuts, frames]
        labels = [
            phone
            for phone, (first, end) in zip(phones, itertools.pairwise(bounds), strict=True)
            for _ in range(first, end)
        ]
        weight = math.exp(scores[np.arange(frames), labels].sum())
        weight *= STAY ** (frames - len(phones)) * (1 - STAY) ** len(phones)
        total[np.arange(frames), labels] += weight
    return total


@pytest.mark.parametrize(
    ("best", "phones"),
    [
        ([0, 1, 1, 2, 0], [(1, 1, 3), (2, 3, 4)]),
        ([1, 0, 1], [(1, 0, 1), (1, 2, 3)]),
        ([0, 0], []),
        ([], []),
    ],
)
def test_the_likeliest_phones(best: list[int], phones: list[tuple[int, int, int]]) -> None:
    sure = np.eye(OUTPUTS, dtype=np.float32)[best].reshape(len(best), OUTPUTS)
    found = Found((), np.zeros(len(best), np.int32), np.zeros(len(best), bool), sure)
    assert found.likeliest_phones() == phones


def test_a_phone_said_twice_stays_two_where_the_best_path_has_two() -> None:
    sure = np.eye(OUTPUTS, dtype=np.float32)[[1, 1, 1, 2, 2]]
    starts = np.array([True, False, True, True, True])
    found = Found((), np.array([1, 1, 1, 2, 1], np.int32), starts, sure)
    assert found.likeliest_phones() == [(1, 0, 2), (1, 2, 3), (2, 3, 5)]
