"""Posteriors of a lattice against all of its paths, and of a search against all word sequences."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from word_graphs import LEXICON, PHONES, SHAPE, make_graph, open_search

from wav2vec_u.graph.lattice import Lattice
from wav2vec_u.graph.search import Found
from wav2vec_u.text.ngram import NgramModel
from wav2vec_u.text.ngram_table import END, FIRST_SYMBOL, START

OUTPUTS = 3


@dataclass
class FakeLattice:
    """Arcs as kaldifst writes them down, states numbered at random but for the start."""

    arcs: list[tuple[int, int, int, float, float]]  # from, to, label, both costs
    finals: dict[int, float]
    num_states: int

    def to_str(self, show_weight_one: bool, fst_field_separator: str) -> str:
        assert (show_weight_one, fst_field_separator) == (True, "\t")
        lines = [
            f"{source}\t{target}\t{label}\t0\t{one},{other}"
            for source, target, label, one, other in self.arcs
        ]
        lines += [f"{state}\t{cost},0" for state, cost in self.finals.items()]
        return "\n".join(lines) + "\n"


def random_lattice(seed: int, n_frames: int) -> FakeLattice:
    """Layers of states, one for every frame, with arcs inside a layer that use no frame."""
    rng = np.random.default_rng(seed)
    layers = [[0], *([] for _ in range(n_frames))]
    names = rng.permutation(np.arange(1, 4 * n_frames + 1)).tolist()
    used = 1
    for layer in layers[1:]:
        for _ in range(int(rng.integers(1, 4))):
            layer.append(names.pop())
            used += 1
    # States are numbered without gaps, the start first.
    numbers = {name: place for place, name in enumerate(sorted({s for x in layers for s in x}))}
    arcs = []
    for before, after in itertools.pairwise(layers):
        for target in after:
            for source in rng.choice(before, size=int(rng.integers(1, 3))).tolist():
                label = int(rng.integers(1, 3 * OUTPUTS + 1))
                costs = rng.normal(size=2).round(3).tolist()
                arcs.append((numbers[source], numbers[target], label, *costs))
        if len(after) > 1 and rng.random() < 0.5:
            arcs.append((numbers[after[0]], numbers[after[1]], 0, float(rng.random()), 0.0))
    finals = {numbers[state]: float(rng.random().__round__(3)) for state in layers[-1]}
    return FakeLattice(arcs, finals, used)


def by_all_paths(lattice: FakeLattice, n_frames: int) -> np.ndarray:
    """Go through every path from the start to an end."""
    found = np.zeros((n_frames, OUTPUTS))
    total = 0.0

    def walk(state: int, labels: list[int], cost: float) -> None:
        nonlocal total
        if state in lattice.finals and len(labels) == n_frames:
            weight = math.exp(-cost - lattice.finals[state])
            total += weight
            for frame, label in enumerate(labels):
                found[frame, (label - 1) % OUTPUTS] += weight
        for source, target, label, one, other in lattice.arcs:
            if source == state:
                walk(target, [*labels, label] if label else labels, cost + one + other)

    walk(0, [], 0.0)
    return found / total


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 100_000), n_frames=st.integers(1, 5))
def test_posteriors_are_those_of_all_paths(seed: int, n_frames: int) -> None:
    lattice = random_lattice(seed, n_frames)
    found = Lattice.read(lattice).posteriors(n_frames, OUTPUTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_all_paths(lattice, n_frames), atol=1e-5)


def test_a_cycle_is_refused() -> None:
    cycle = FakeLattice([(0, 1, 1, 0.0, 0.0), (1, 2, 0, 0.0, 0.0), (2, 1, 0, 0.0, 0.0)], {2: 0}, 3)
    with pytest.raises(ValueError, match="cycle"):
        Lattice.read(cycle)


def test_an_empty_lattice_is_refused() -> None:
    with pytest.raises(ValueError, match="no state"):
        Lattice.read(FakeLattice([], {}, 0))


def test_what_the_search_holds_for_likely_is_so_of_all_word_sequences(tmp_path: Path) -> None:
    """Slow oracle: every sequence of up to three words, every pause, every way of lasting."""
    pytest.importorskip("kaldi_decoder", reason="the extra `decode` is not installed")
    make_graph(tmp_path)
    search = open_search(tmp_path, beam=60.0, lattice_beam=40.0)
    words_known = list(LEXICON)
    model = NgramModel.read_arpa(tmp_path / "words.arpa", words_known)
    pause, none = math.log(SHAPE.silence), math.log(1 - SHAPE.silence)
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
        found = search.find(scores)
        assert found is not None
        np.testing.assert_allclose(
            found.posteriors, wanted / wanted.sum(axis=1, keepdims=True), atol=1e-3
        )


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
        weight *= SHAPE.stay ** (frames - len(phones)) * (1 - SHAPE.stay) ** len(phones)
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
