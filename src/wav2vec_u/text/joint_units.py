"""Words cut into pieces that are spelled and said together, as in ph-f, o-əʊ, n-n.

Many-to-many alignment by expectation-maximisation (Jiampojamarn et al. 2007, *Applying many-to-many
alignments and hidden Markov models to letter-to-phoneme conversion*), with one-to-many and
many-to-one pieces alone, of which nothing else than the lexicon is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from wav2vec_u.text.lexicon import Phones

SHAPES = ((1, 1), (1, 2), (1, 3), (1, 4), (1, 0), (2, 1))  # phones and letters of a piece
ITERATIONS = 8
LEAST_COUNT = 1e-3  # expected, below which a piece is forgotten


@dataclass(frozen=True)
class JointUnit:
    """Phones, and the letters they are spelled with."""

    phones: Phones
    letters: str


@dataclass(frozen=True)
class _Edges:
    """All pieces that all words may be cut into.

    Nodes are places in words, counted through all words; a node stands before those behind it.

    Attributes
    ----------
    sources, targets : (E,) int64
        Nodes before and after a piece; sorted by source.
    units : (E,) int64
        Number of the piece.
    starts : (W + 1,) int64
        First edge of every word.
    first, last : (W,) int64
        Nodes where words begin and end.
    n_nodes : int
    """

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    units: NDArray[np.int64]
    starts: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    n_nodes: int


def align(
    entries: Sequence[tuple[str, Phones]],
) -> tuple[list[JointUnit], list[NDArray[np.int64]]]:
    """Cut words into joint units.

    Parameters
    ----------
    entries : sequence of (word, phones)

    Returns
    -------
    units : list of JointUnit
    cuts : list of ndarray, each (U,) int64
        Numbers of the units of every word; empty where a word cannot be cut, as one of far more
        letters than phones.
    """
    units, edges = _all_edges(entries)
    if not units:
        return [], [np.zeros(0, np.int64) for _ in entries]
    # A piece counts as much as its longer side is long: else few long pieces would always win.
    weights = np.array([max(len(unit.phones), len(unit.letters)) for unit in units], np.float64)
    log_probs = np.full(len(units), -np.log(len(units)))
    for _ in range(ITERATIONS):
        counts = _expected(
            log_probs * weights,
            edges.sources,
            edges.targets,
            edges.units,
            edges.starts,
            edges.first,
            edges.last,
            edges.n_nodes,
        )
        log_probs = np.full(len(units), -np.inf)
        kept = counts > LEAST_COUNT
        log_probs[kept] = np.log(counts[kept] / counts[kept].sum())
    return units, _best(log_probs * weights, edges)


def _all_edges(entries: Sequence[tuple[str, Phones]]) -> tuple[list[JointUnit], _Edges]:
    numbers: dict[tuple[Phones, str], int] = {}
    sources: list[int] = []
    targets: list[int] = []
    units: list[int] = []
    starts = [0]
    first: list[int] = []
    last: list[int] = []
    n_nodes = 0
    for word, phones in entries:
        columns = len(word) + 1
        first.append(n_nodes)
        for at in range(len(phones)):
            for place in range(columns):
                for n_phones, n_letters in SHAPES:
                    if at + n_phones > len(phones) or place + n_letters >= columns:
                        continue
                    unit = phones[at : at + n_phones], word[place : place + n_letters]
                    sources.append(n_nodes + at * columns + place)
                    targets.append(n_nodes + (at + n_phones) * columns + place + n_letters)
                    units.append(numbers.setdefault(unit, len(numbers)))
        n_nodes += (len(phones) + 1) * columns
        last.append(n_nodes - 1)
        starts.append(len(sources))
    edges = _Edges(
        np.array(sources, np.int64),
        np.array(targets, np.int64),
        np.array(units, np.int64),
        np.array(starts, np.int64),
        np.array(first, np.int64),
        np.array(last, np.int64),
        n_nodes,
    )
    return [JointUnit(*unit) for unit in numbers], edges


@njit(cache=True)  # type: ignore[untyped-decorator]
def _expected(
    scores: NDArray[np.float64],
    sources: NDArray[np.int64],
    targets: NDArray[np.int64],
    units: NDArray[np.int64],
    starts: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    n_nodes: int,
) -> NDArray[np.float64]:
    """Return how often every unit is expected to occur, given the log-scores of units."""
    forward = np.full(n_nodes, -np.inf)
    backward = np.full(n_nodes, -np.inf)
    counts = np.zeros(len(scores))
    for word in range(len(first)):
        forward[first[word]] = 0.0
        backward[last[word]] = 0.0
        for edge in range(starts[word], starts[word + 1]):
            score = forward[sources[edge]] + scores[units[edge]]
            forward[targets[edge]] = np.logaddexp(forward[targets[edge]], score)
        total = forward[last[word]]
        if total == -np.inf:
            continue
        for edge in range(starts[word + 1] - 1, starts[word] - 1, -1):
            score = backward[targets[edge]] + scores[units[edge]]
            counts[units[edge]] += np.exp(forward[sources[edge]] + score - total)
            backward[sources[edge]] = np.logaddexp(backward[sources[edge]], score)
    return counts


def _best(scores: NDArray[np.float64], edges: _Edges) -> list[NDArray[np.int64]]:
    """Return the units of the best path through every word; none where there is no path."""
    arrived = _arrivals(
        scores, edges.sources, edges.targets, edges.units, edges.first, edges.n_nodes
    )
    cuts = []
    for first, last in zip(edges.first.tolist(), edges.last.tolist(), strict=True):
        units: list[int] = []
        node = last
        while node != first and arrived[node] >= 0:
            units.append(int(edges.units[arrived[node]]))
            node = int(edges.sources[arrived[node]])
        cuts.append(np.array(units[::-1] if node == first else [], np.int64))
    return cuts


@njit(cache=True)  # type: ignore[untyped-decorator]
def _arrivals(
    scores: NDArray[np.float64],
    sources: NDArray[np.int64],
    targets: NDArray[np.int64],
    units: NDArray[np.int64],
    first: NDArray[np.int64],
    n_nodes: int,
) -> NDArray[np.int64]:
    """Return the edge by which the best path comes to every node, -1 where none does."""
    best = np.full(n_nodes, -np.inf)
    best[first] = 0.0
    arrived = np.full(n_nodes, -1)
    for edge in range(len(sources)):
        score = best[sources[edge]] + scores[units[edge]]
        if score > best[targets[edge]]:
            best[targets[edge]] = score
            arrived[targets[edge]] = edge
    return arrived
