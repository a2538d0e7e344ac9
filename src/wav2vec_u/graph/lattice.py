"""A lattice: all paths that the search has held for possible, and how likely they are.

The best path says what its words say; the lattice says of every frame how likely each phone is,
given all words that may be said there (Wessel et al. 2001, *Confidence measures for large
vocabulary continuous speech recognition*). A phone that many word sequences share is heard even
where none of them is sure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

LINK = np.dtype(
    [("cost", "f8"), ("source", "i4"), ("target", "i4"), ("label", "i4"), ("word", "i4")]
)

_Ints = NDArray[np.int32]
_Doubles = NDArray[np.float64]
_Records = NDArray[np.void]


@dataclass(frozen=True)
class Path:
    """One way through a lattice.

    Attributes
    ----------
    labels : (T,) int32
        Of the graph's input side, one for every frame.
    words : (W,) int32
        In time order, counted from 1.
    cost : float
        Nats, up to a constant of the utterance.
    """

    labels: _Ints
    words: _Ints
    cost: float


@dataclass(frozen=True)
class Lattice:
    """Links between tokens, in an order in which every link comes after all that lead to it.

    Attributes
    ----------
    links : (A,) LINK
        ``source``, ``target``: tokens, 0 being the start; ``label``: of the graph's input side, 0
        where no frame is used up; ``word``: counted from 1, 0 where none is said; ``cost``: nats.
    ends : (E,) int32
        Tokens in which a path may end.
    end_costs : (E,) float64
        What ending there costs, nats.
    """

    links: _Records
    ends: _Ints
    end_costs: _Doubles

    def posteriors(self, n_frames: int, n_outputs: int) -> NDArray[np.float32]:
        """Return p(output | all frames) of every frame, (n_frames, n_outputs).

        Outputs are labels counted from 1, round and round (see `graph.build`).
        """
        found: _Doubles = _posteriors(self.links, self._finals(), n_frames, n_outputs)
        return found.astype(np.float32)

    def best(self) -> Path:
        """Return the likeliest path."""
        places, cost = _best_links(self.links, self._finals())
        labels, words = self.links["label"][places], self.links["word"][places]
        return Path(labels[labels > 0], words[words > 0], float(cost))

    def _finals(self) -> _Doubles:
        """Return what ending in each token costs."""
        n_tokens = 1 + max(self.links["target"].max(initial=0), self.ends.max())
        finals = np.full(n_tokens, np.inf)
        finals[self.ends] = self.end_costs
        return finals


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _posteriors(links: _Records, finals: _Doubles, n_frames: int, n_outputs: int) -> _Doubles:
    forward = np.full(len(finals), -np.inf)
    backward = -finals
    frames = np.zeros(len(finals), np.int64)  # used up on the way to a token
    forward[0] = 0.0
    for link in links:
        on_the_way = forward[link.source] - link.cost
        forward[link.target] = np.logaddexp(forward[link.target], on_the_way)
        frames[link.target] = frames[link.source] + (1 if link.label > 0 else 0)
    for place in range(len(links) - 1, -1, -1):
        link = links[place]
        to_come = backward[link.target] - link.cost
        backward[link.source] = np.logaddexp(backward[link.source], to_come)
    found = np.zeros((n_frames, n_outputs))
    for link in links:
        if link.label > 0:
            log_prob = forward[link.source] - link.cost + backward[link.target] - backward[0]
            found[frames[link.source], (link.label - 1) % n_outputs] += np.exp(log_prob)
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _best_links(links: _Records, finals: _Doubles) -> tuple[_Ints, float]:
    """Return the places of the links of the cheapest path, in time order, and its cost."""
    totals = np.full(len(finals), np.inf)
    by = np.full(len(finals), -1, np.int32)
    totals[0] = 0.0
    for place in range(len(links)):
        link = links[place]
        total = totals[link.source] + link.cost
        if total < totals[link.target]:
            totals[link.target] = total
            by[link.target] = place
    token = np.argmin(totals + finals)
    cost = totals[token] + finals[token]
    path = np.empty(len(finals), np.int32)
    length = 0
    while by[token] >= 0:
        path[length] = by[token]
        length += 1
        token = links[by[token]].source
    return path[:length][::-1].copy(), cost
