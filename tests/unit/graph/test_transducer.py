"""The graph as arrays: the same states and arcs as in the transducer that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wav2vec_u.graph.transducer import GRAPH_NAME, Transducer
from wav2vec_u.runtime.errors import UserError

# from, to, label, word, cost
ARCS = [
    (0, 1, 3, 0, 0.5),
    (0, 2, 0, 7, 1.5),
    (1, 1, 2, 0, 0.25),
    (2, 1, 0, 0, -1.0),
    (1, 3, 0, 0, 0.0),
    (0, 3, 1, 2, 4.0),
]
FINALS = [np.inf, np.inf, np.inf, 0.75]


def make(arcs: list[tuple[int, int, int, int, float]]) -> Transducer:
    sources, targets, labels, words = (np.array([arc[i] for arc in arcs], "i4") for i in range(4))
    costs = np.array([arc[4] for arc in arcs], np.float32)
    finals = np.array(FINALS, np.float32)
    return Transducer.of(sources, targets, labels, words, costs, finals, start=0)


def arcs_of(graph: Transducer) -> set[tuple[int, int, int, int, float]]:
    bounds = zip(graph.states["first"][:-1], graph.states["first"][1:], strict=True)
    return {
        (state, *graph.arcs[place].tolist())
        for state, (first, end) in enumerate(bounds)
        for place in range(first, end)
    }


def test_arcs_lie_by_their_state_those_without_a_frame_first() -> None:
    graph = make(ARCS)
    assert arcs_of(graph) == set(ARCS)
    for state, row in enumerate(graph.states[:-1]):
        silent = graph.arcs[row["first"] : row["emitting"]]
        spoken = graph.arcs[row["emitting"] : graph.states[state + 1]["first"]]
        assert (silent["label"] == 0).all()
        assert (spoken["label"] > 0).all()
    assert graph.states["final"][:-1].tolist() == FINALS


def test_arcs_without_a_frame_lead_to_higher_ranks() -> None:
    assert make(ARCS).states["rank"][:-1].tolist() == [0, 2, 1, 3]


def test_a_cycle_without_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="uses up no frame"):
        make([*ARCS, (3, 2, 0, 0, 0.1)])


def test_it_is_what_the_transducer_of_the_library_is() -> None:
    kaldifst = pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")
    lines = [" ".join(map(str, arc)) for arc in ARCS]
    graph = Transducer.from_fst(kaldifst.compile("\n".join([*lines, "3 0.75"])))
    assert arcs_of(graph) == set(ARCS)
    assert graph.states["final"][:-1].tolist() == FINALS
    assert graph.start == 0


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    graph = make(ARCS)
    graph.save(tmp_path)
    again = Transducer.load(tmp_path)
    np.testing.assert_array_equal(again.states, graph.states)
    np.testing.assert_array_equal(again.arcs, graph.arcs)
    assert again.start == graph.start


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no decoding graph"):
        Transducer.load(tmp_path)
    with (tmp_path / GRAPH_NAME).open("wb") as file:
        np.savez(file, states=np.zeros(3), arcs=np.zeros(3), start=np.array(0))
    with pytest.raises(UserError, match="is damaged"):
        Transducer.load(tmp_path)
