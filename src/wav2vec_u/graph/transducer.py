"""A decoding graph as plain arrays: what the search needs of it, and nothing of OpenFst."""

from __future__ import annotations

import zipfile
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from wav2vec_u.runtime.errors import UserError

GRAPH_NAME = "graph.npz"

# One record is one place in memory: a search jumps from state to state.
STATE = np.dtype([("first", "i4"), ("emitting", "i4"), ("rank", "i4"), ("final", "f4")])
ARC = np.dtype([("target", "i4"), ("label", "i4"), ("word", "i4"), ("cost", "f4")])

_Ints = NDArray[np.int32]
_Floats = NDArray[np.float32]
_Records = NDArray[np.void]


@dataclass(frozen=True)
class Transducer:
    """States and arcs; the arcs of a state lie together, those that use up no frame first.

    Attributes
    ----------
    states : (S + 1,) STATE
        ``first``: first arc of the state; ``emitting``: its first arc that uses up a frame;
        ``rank``: most arcs that lead to it in a row without using up a frame, so that such arcs go
        upwards; ``final``: what ending in it costs, infinity where nothing ends. The last one is no
        state and holds the number of arcs.
    arcs : (A,) ARC
        ``target``: state that it leads to; ``label``: of the frame that it uses up, counted from 1,
        0 for none; ``word``: counted from 1, 0 for none; ``cost``: nats.
    start : int
        State.
    """

    states: _Records
    arcs: _Records
    start: int

    @classmethod
    def of(
        cls,
        sources: _Ints,
        targets: _Ints,
        labels: _Ints,
        words: _Ints,
        costs: _Floats,
        finals: _Floats,
        start: int,
    ) -> Transducer:
        """Sort the columns (A,) of arcs that come in any order, and what ending costs (S,).

        Raises
        ------
        ValueError
            If a cycle uses up no frame: no search would end.
        """
        order = np.lexsort((labels > 0, sources))
        arcs = np.empty(len(sources), ARC)
        for name, column in zip(ARC.names or (), (targets, labels, words, costs), strict=True):
            arcs[name] = column[order]
        silent = np.bincount(sources[labels == 0], minlength=len(finals))
        states = np.zeros(len(finals) + 1, STATE)
        states["first"] = np.searchsorted(sources[order], np.arange(len(states)))
        states["emitting"][:-1] = states["first"][:-1] + silent
        states["emitting"][-1] = len(arcs)
        states["final"] = [*finals, np.inf]
        _rank(states, arcs)
        if (states["rank"] < 0).any():
            raise ValueError("the graph has a cycle that uses up no frame")
        return cls(states, arcs, start)

    @classmethod
    def from_fst(cls, fst: Any) -> Transducer:
        """Take over a ``kaldifst.StdVectorFst``."""
        from kaldifst import ArcIterator

        sources, targets, labels, words = array("i"), array("i"), array("i"), array("i")
        costs = array("f")
        finals = np.empty(fst.num_states, np.float32)
        for state in range(fst.num_states):
            finals[state] = fst.final(state).value
            for arc in ArcIterator(fst, state):
                sources.append(state)
                targets.append(arc.nextstate)
                labels.append(arc.ilabel)
                words.append(arc.olabel)
                costs.append(arc.weight.value)
        return cls.of(
            np.array(sources),
            np.array(targets),
            np.array(labels),
            np.array(words),
            np.array(costs),
            finals,
            fst.start,
        )

    def save(self, folder: Path) -> None:
        """Write ``graph.npz`` into an existing folder."""
        with (folder / GRAPH_NAME).open("wb") as file:
            np.savez(file, states=self.states, arcs=self.arcs, start=np.array(self.start))

    @classmethod
    def load(cls, folder: Path) -> Transducer:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If it is missing or damaged.
        """
        path = folder / GRAPH_NAME
        if not path.exists():
            raise UserError(f"{folder}: holds no decoding graph; run again")
        try:
            with np.load(path, allow_pickle=False) as kept:
                states, arcs, start = kept["states"], kept["arcs"], int(kept["start"])
            if states.dtype != STATE or arcs.dtype != ARC:
                raise ValueError("no decoding graph")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{folder}: its decoding graph is damaged; run again") from error
        return cls(states, arcs, start)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _rank(states: _Records, arcs: _Records) -> None:
    """Set the ranks; -1 on a cycle of arcs that use up no frame, or behind one."""
    n_states = len(states) - 1
    waiting = np.zeros(n_states, np.int32)
    for state in range(n_states):
        states[state].rank = -1
        for arc in range(states[state].first, states[state].emitting):
            waiting[arcs[arc].target] += 1
    longest = np.zeros(n_states, np.int32)
    ready = np.empty(n_states, np.int32)
    height = 0
    for state in range(n_states):
        if waiting[state] == 0:
            ready[height] = state
            height += 1
    while height > 0:
        height -= 1
        state = ready[height]
        states[state].rank = longest[state]
        for arc in range(states[state].first, states[state].emitting):
            target = arcs[arc].target
            longest[target] = max(longest[target], longest[state] + 1)
            waiting[target] -= 1
            if waiting[target] == 0:
                ready[height] = target
                height += 1
