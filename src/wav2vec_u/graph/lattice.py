"""A lattice: all word sequences that the search has held for possible, and how likely they are.

The best path says what its words say; the lattice says of every frame how likely each phone is,
given all words that may be said there (Wessel et al. 2001, *Confidence measures for large
vocabulary continuous speech recognition*). A phone that many word sequences share is heard even
where none of them is sure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_Ints = NDArray[np.int64]
_Doubles = NDArray[np.float64]
_ARC_COLUMNS = 5  # of a line that is an arc: from, to, input, output, both costs


@dataclass(frozen=True)
class Lattice:
    """Arcs in an order in which every arc comes after all that lead to it.

    Attributes
    ----------
    sources, targets : (A,) int64
        States; state 0 is the start.
    labels : (A,) int64
        Of the graph's input side; 0 where no frame is used up.
    log_weights : (A,) float64
        Natural logarithms.
    finals : (S,) float64
        Log-weights of ending in a state, minus infinity where nothing ends.
    """

    sources: _Ints
    targets: _Ints
    labels: _Ints
    log_weights: _Doubles
    finals: _Doubles

    @classmethod
    def read(cls, raw: Any) -> Lattice:
        """Take over a lattice of kaldifst, without cycles.

        Raises
        ------
        ValueError
            If it has a cycle, or no state.
        """
        arcs: list[str] = []
        finals = np.full(raw.num_states, -np.inf)
        written = raw.to_str(show_weight_one=True, fst_field_separator="\t")
        for line in written.replace(",", "\t").splitlines():
            columns = line.count("\t")
            if columns == _ARC_COLUMNS:
                arcs.append(line)
            elif line:
                state, *costs = line.split("\t")
                finals[int(state)] = -sum(map(float, costs))
        table = np.array("\t".join(arcs).split("\t") if arcs else [], np.float64)
        table = table.reshape(-1, _ARC_COLUMNS + 1)
        sources, targets, labels = (table[:, place].astype(np.int64) for place in range(3))
        rank = _ranks(*_sorted_by_source(sources, targets), len(finals))
        if len(finals) == 0 or rank.min() < 0:
            raise ValueError("the lattice has a cycle, or no state")
        sources, targets = rank[sources], rank[targets]
        ranked = np.empty(len(finals))
        ranked[rank] = finals
        order = np.argsort(sources, kind="stable")
        return cls(
            sources[order],
            targets[order],
            labels[order],
            -(table[:, 4] + table[:, 5])[order],
            ranked,
        )

    def posteriors(self, n_frames: int, n_outputs: int) -> NDArray[np.float32]:
        """Return p(output | all frames) of every frame, (n_frames, n_outputs).

        Outputs are labels counted from 1, round and round (see `graph.build`).
        """
        found: NDArray[np.float64] = _posteriors(
            self.sources,
            self.targets,
            self.labels,
            self.log_weights,
            self.finals,
            n_frames,
            n_outputs,
        )
        return found.astype(np.float32)


def _sorted_by_source(sources: _Ints, targets: _Ints) -> tuple[_Ints, _Ints]:
    order = np.argsort(sources, kind="stable")
    return sources[order], targets[order]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _ranks(sources: _Ints, targets: _Ints, n_states: int) -> _Ints:
    """Number states so that arcs lead upwards; -1 for those on a cycle or behind one.

    The start, to which no arc leads, comes first, since arcs are sorted by their source and all
    states can be reached from it.
    """
    waiting = np.zeros(n_states, np.int64)
    for target in targets:
        waiting[target] += 1
    first = np.searchsorted(sources, np.arange(n_states + 1))
    ranks = np.full(n_states, -1, np.int64)
    stack = np.empty(n_states, np.int64)
    height = 0
    for state in range(n_states):
        if waiting[state] == 0:
            stack[height] = state
            height += 1
    rank = 0
    while height > 0:
        height -= 1
        state = stack[height]
        ranks[state] = rank
        rank += 1
        for arc in range(first[state], first[state + 1]):
            waiting[targets[arc]] -= 1
            if waiting[targets[arc]] == 0:
                stack[height] = targets[arc]
                height += 1
    return ranks


@njit(cache=True)  # type: ignore[untyped-decorator]
def _posteriors(
    sources: _Ints,
    targets: _Ints,
    labels: _Ints,
    log_weights: _Doubles,
    finals: _Doubles,
    n_frames: int,
    n_outputs: int,
) -> _Doubles:
    n_states = len(finals)
    forward = np.full(n_states, -np.inf)
    backward = finals.copy()
    frames = np.zeros(n_states, np.int64)  # used up on the way to a state
    forward[0] = 0.0
    for arc in range(len(sources)):
        source, target = sources[arc], targets[arc]
        forward[target] = np.logaddexp(forward[target], forward[source] + log_weights[arc])
        frames[target] = frames[source] + (1 if labels[arc] > 0 else 0)
    for arc in range(len(sources) - 1, -1, -1):
        source, target = sources[arc], targets[arc]
        backward[source] = np.logaddexp(backward[source], log_weights[arc] + backward[target])
    found = np.zeros((n_frames, n_outputs))
    for arc in range(len(sources)):
        if labels[arc] > 0:
            source, target = sources[arc], targets[arc]
            log_prob = forward[source] + log_weights[arc] + backward[target] - backward[0]
            found[frames[source], (labels[arc] - 1) % n_outputs] += np.exp(log_prob)
    return found
