"""A lattice: all paths that the search has held for possible, and how likely they are.

The best path says what its words say; the lattice says of every frame how likely each phone is,
given all words that may be said there (Wessel et al. 2001, *Confidence measures for large
vocabulary continuous speech recognition*). A phone that many word sequences share is heard even
where none of them is sure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

LINK = np.dtype(
    [("cost", "f8"), ("source", "i4"), ("target", "i4"), ("label", "i4"), ("word", "i4")]
)
# A way to a token: its cost, a hash of its words, its last link, and the way to where that begins.
_WAY = np.dtype([("cost", "f8"), ("words", "u8"), ("link", "i4"), ("before", "i4")])
_EARLIER = 3  # frames by which a word may begin before its place on the best path
_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)

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
class WordPosteriors:
    """Where words may have been said.

    Attributes
    ----------
    words : (N,) int32
        Counted from 1.
    frames : (N,) int64
        In which it is clear on a path that it says the word: one between its first and its last.
    probs : (N,) float64
    """

    words: _Ints
    frames: NDArray[np.int64]
    probs: _Doubles

    def of(self, word: int, first: int, end: int) -> float:
        """Return how likely a word was said about the frames from `first` to `end`."""
        about = (self.frames >= first - _EARLIER) & (self.frames <= end)
        return min(1.0, float(self.probs[about & (self.words == word)].sum()))


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

    def posteriors(self, n_frames: int, n_outputs: int, scale: float) -> NDArray[np.float32]:
        """Return p(output | all frames) of every frame, (n_frames, n_outputs).

        Outputs are labels counted from 1, round and round (see `graph.build`).

        Parameters
        ----------
        n_frames, n_outputs : int
        scale : float
            Factor on all costs: below 1, other words come nearer to the best ones.
        """
        probs, frames = _link_posteriors(self.links, scale * self._finals(), scale)
        heard = self.links["label"] > 0
        outputs = (self.links["label"][heard] - 1) % n_outputs
        places = frames[heard] * n_outputs + outputs
        found = np.bincount(places, weights=probs[heard], minlength=n_frames * n_outputs)
        return found.reshape(n_frames, n_outputs).astype(np.float32)

    def without_word_cost(self, cost: float, n_outputs: int) -> Lattice:
        """Return the same paths as they would be if a word did not cost anything.

        Parameters
        ----------
        cost : float
            Nats that every word has cost in the search.
        n_outputs : int
            V: labels from V + 1 to 2 V begin a word (see `graph.build`).
        """
        if cost == 0:
            return self
        labels = self.links["label"]
        begins = (labels > n_outputs) & (labels <= 2 * n_outputs)
        links = self.links.copy()
        links["cost"] -= cost * begins
        return replace(self, links=links)

    def words_heard(self, scale: float) -> WordPosteriors:
        """Return where each word may have been said, and how likely it is.

        Parameters
        ----------
        scale : float
            As for `posteriors`.
        """
        probs, frames = _link_posteriors(self.links, scale * self._finals(), scale)
        said = self.links["word"] > 0
        return WordPosteriors(self.links["word"][said], frames[said], probs[said])

    def best(self, number: int) -> list[Path]:
        """Return the cheapest paths of so many word sequences, at most, the best first.

        No two of them say the same words.
        """
        found = []
        for links, cost in _best_links(self.links, self._finals(), number):
            labels, words = self.links["label"][links], self.links["word"][links]
            found.append(Path(labels[labels > 0], words[words > 0], float(cost)))
        return found

    def _finals(self) -> _Doubles:
        """Return what ending in each token costs."""
        n_tokens = 1 + max(self.links["target"].max(initial=0), self.ends.max())
        finals = np.full(n_tokens, np.inf)
        finals[self.ends] = self.end_costs
        return finals


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _link_posteriors(
    links: _Records, finals: _Doubles, scale: float
) -> tuple[_Doubles, NDArray[np.int64]]:
    """Return the probability of every link, and how many frames are used up before it."""
    forward = np.full(len(finals), -np.inf)
    backward = -finals
    used = np.zeros(len(finals), np.int64)  # frames on the way to a token
    forward[0] = 0.0
    for link in links:
        on_the_way = forward[link.source] - scale * link.cost
        forward[link.target] = np.logaddexp(forward[link.target], on_the_way)
        used[link.target] = used[link.source] + (1 if link.label > 0 else 0)
    for place in range(len(links) - 1, -1, -1):
        link = links[place]
        to_come = backward[link.target] - scale * link.cost
        backward[link.source] = np.logaddexp(backward[link.source], to_come)
    probs = np.empty(len(links), np.float64)
    frames = np.empty(len(links), np.int64)
    for place in range(len(links)):
        link = links[place]
        whole = forward[link.source] - scale * link.cost + backward[link.target]
        probs[place] = np.exp(whole - backward[0])
        frames[place] = used[link.source]
    return probs, frames


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _best_links(links: _Records, finals: _Doubles, number: int) -> list[tuple[_Ints, float]]:
    """Return the places of the links of the best paths, in time order, and their costs.

    Every token keeps the best way to it of its `number` best word sequences, which is enough for
    those of the whole. A word sequence is known by a hash.
    """
    n_tokens = len(finals)
    ways = np.empty((n_tokens, number), _WAY)
    counts = np.zeros(n_tokens, np.int64)
    ways[0, 0].cost, ways[0, 0].words, ways[0, 0].link, ways[0, 0].before = 0.0, 0, -1, -1
    counts[0] = 1
    for place in range(len(links)):
        link = links[place]
        for before in range(counts[link.source]):
            way = ways[link.source, before]
            words = way.words
            if link.word > 0:
                words = (words ^ np.uint64(link.word)) * _HASH_FACTOR
                words ^= words >> np.uint64(29)
            counts[link.target] = _keep_best(
                ways[link.target],
                counts[link.target],
                way.cost + link.cost,
                words,
                place,
                before,
            )
    whole = np.empty(number, _WAY)
    n_whole = 0
    possible = np.flatnonzero(np.isfinite(finals))
    for token in possible:
        for before in range(counts[token]):
            way = ways[token, before]
            n_whole = _keep_best(whole, n_whole, way.cost + finals[token], way.words, token, before)
    found = []
    for rank in range(n_whole):
        token, before = whole[rank].link, whole[rank].before
        path = np.empty(n_tokens, np.int32)
        length = 0
        while ways[token, before].link >= 0:
            way = ways[token, before]
            path[length] = way.link
            length += 1
            token, before = links[way.link].source, way.before
        found.append((path[:length][::-1].copy(), whole[rank].cost))
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _keep_best(ways: _Records, count: int, cost: float, words: int, link: int, before: int) -> int:
    """Put a way among others, which are sorted by their cost; return how many there are now.

    Of two ways with the same words, the cheaper one stays.
    """
    place = count
    for other in range(count):
        if ways[other].words == words:
            if ways[other].cost <= cost:
                return count
            place = other
            count -= 1
            break
    if place == len(ways):
        if ways[place - 1].cost <= cost:
            return count
        place -= 1
        count -= 1
    while place > 0 and ways[place - 1].cost > cost:
        ways[place] = ways[place - 1]
        place -= 1
    way = ways[place]
    way.cost, way.words, way.link, way.before = cost, words, link, before
    return count + 1
