"""The compiled search finds the lattice that Kaldi's finds, and never holds more than it may."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from word_graphs import PHONES, make_graph

from wav2vec_u.graph.beam_search import search_lattice
from wav2vec_u.graph.lattice import Lattice
from wav2vec_u.graph.transducer import Transducer

kaldifst = pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")
kaldi_decoder = pytest.importorskip("kaldi_decoder", reason="it is in the extra `dev` alone")

FEW = 12  # states


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Transducer:
    folder = tmp_path_factory.mktemp("graph")
    make_graph(folder)
    return Transducer.load(folder / "graph")


@pytest.fixture(scope="module")
def library_graph(graph: Transducer) -> Any:
    """The same graph as the library wants it."""
    lines = []
    for state in range(len(graph.states) - 1):
        for place in range(graph.states[state]["first"], graph.states[state + 1]["first"]):
            target, label, word, cost = graph.arcs[place]
            lines.append(f"{state} {target} {label} {word} {cost:.8f}")
    finals = graph.states["final"][:-1]
    lines += [f"{state} {finals[state]:.8f}" for state in np.flatnonzero(np.isfinite(finals))]
    return kaldifst.compile("\n".join(lines))


def frames(seed: int, n_frames: int, sureness: float = 0.4) -> np.ndarray:
    """Made-up log-likelihoods of all labels."""
    rng = np.random.default_rng(seed)
    rows = np.log(rng.dirichlet(np.full(len(PHONES), sureness), size=n_frames))
    return np.concatenate([rows, rows, rows], axis=1).astype(np.float32)


def by_kaldi(library_graph: Any, scores: np.ndarray, beam: float, lattice_beam: float) -> Any:
    options = kaldi_decoder.LatticeSimpleDecoderConfig(beam=beam, lattice_beam=lattice_beam)
    decoder = kaldi_decoder.LatticeSimpleDecoder(library_graph, options)
    decoder.decode(kaldi_decoder.DecodableCtc(scores))
    return decoder


def tokens_of(lattice: Lattice) -> int:
    return len(np.unique([lattice.links["source"], lattice.links["target"]]))


# Those without pruning on the way, and those with.
@pytest.mark.parametrize("n_frames", [1, 12, 25, 70])
@pytest.mark.parametrize(("beam", "lattice_beam"), [(60.0, 30.0), (9.0, 6.0), (6.0, 1.0)])
def test_the_lattice_is_that_of_kaldi(
    graph: Transducer, library_graph: Any, n_frames: int, beam: float, lattice_beam: float
) -> None:
    for seed in range(5):
        scores = frames(seed, n_frames)
        found = search_lattice(graph, scores, beam, lattice_beam, max_active=4000)
        decoder = by_kaldi(library_graph, scores, beam, lattice_beam)
        if np.isinf(decoder.final_relative_cost()):
            assert found is None
            continue
        assert found is not None
        _, path = decoder.get_best_path()
        _, labels, words, weight = kaldifst.get_linear_symbol_sequence(path)
        best = found.best(1)[0]
        assert best.cost == pytest.approx(weight.value1 + weight.value2, abs=1e-3)
        # Where a phone is said twice, all boundaries between the two cost the same.
        phones = [(label - 1) % len(PHONES) for label in labels]
        assert ((best.labels - 1) % len(PHONES)).tolist() == phones
        assert best.words.tolist() == words
        _, lattice = decoder.get_raw_lattice()
        # A narrow beam may hold a state more or less: it depends on which arc is followed first.
        assert tokens_of(found) == pytest.approx(lattice.num_states, rel=0.05)
        if beam == 60.0:
            assert tokens_of(found) == lattice.num_states


def test_links_to_a_token_come_before_those_from_it(graph: Transducer) -> None:
    lattice = search_lattice(graph, frames(0, 60), 20.0, 10.0, max_active=4000)
    assert lattice is not None
    followed: set[int] = set()
    reached = {0}
    for link in lattice.links:
        assert link["source"] in reached
        assert link["target"] not in followed
        followed.add(int(link["source"]))
        reached.add(int(link["target"]))


def test_few_states_are_followed_where_more_may_not_be(graph: Transducer) -> None:
    scores = np.zeros((60, 3 * len(PHONES)), np.float32)  # anything may have been said
    free, bound = (search_lattice(graph, scores, 50.0, 50.0, n) for n in (4000, FEW))
    assert free is not None
    assert bound is not None
    from_frame = bound.links[bound.links["label"] > 0]
    frame_of = np.zeros(1 + int(bound.links["target"].max()), int)
    for link in bound.links:
        frame_of[link["target"]] = frame_of[link["source"]] + (link["label"] > 0)
    for frame in range(60):
        here = from_frame[frame_of[from_frame["source"]] == frame]
        # Those that cost nearly the same as the best are followed, however many they are.
        assert 0 < len(np.unique(here["source"])) <= 2 * FEW
    assert len(bound.links) < 0.5 * len(free.links)
    assert bound.best(1)[0].cost >= free.best(1)[0].cost


def test_a_search_that_reaches_no_end_finds_nothing(graph: Transducer) -> None:
    nowhere = graph.states.copy()
    nowhere["final"] = np.inf
    closed = Transducer(nowhere, graph.arcs, graph.start)
    for n_frames in (1, 30, 50):
        assert search_lattice(closed, frames(0, n_frames), 20.0, 8.0, max_active=4000) is None


def test_scores_that_exclude_everything_find_nothing(graph: Transducer) -> None:
    impossible = np.full((30, 3 * len(PHONES)), -np.inf, np.float32)
    assert search_lattice(graph, impossible, 20.0, 8.0, max_active=4000) is None
