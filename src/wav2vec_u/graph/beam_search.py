"""The search: frame by frame all paths through a decoding graph that are not far from the best.

Token passing with a beam and a bound on the tokens (Young et al. 1989), which keeps how each token
was reached, so that a lattice remains (Povey et al. 2012, *Generating exact lattices in the WFST
framework*; pruning as there). Compiled, and without Python's lock, so that threads search side by
side in one graph.

A token is a state reached after some frames; a link is an arc between two of them. Links stand in
an order in which all links to a token come before all links from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from wav2vec_u.graph.lattice import LINK, Lattice
from wav2vec_u.graph.transducer import Transducer

PRUNE_EVERY = 25  # frames

_TOKEN = np.dtype([("total", "f8"), ("state", "i4"), ("same_rank", "i4")])
_FIRST_ROOM = 4096  # tokens and links, before there is more of them
_CLASSES = 256  # of tokens, by how far they are behind the best
_ROUNDING = 1e-6  # nats: must not lose the best path itself

_Ints = NDArray[np.int32]
_Floats = NDArray[np.float32]
_Doubles = NDArray[np.float64]
_Records = NDArray[np.void]


def search_lattice(
    graph: Transducer, scores: _Floats, beam: float, lattice_beam: float, max_active: int
) -> Lattice | None:
    """Search one utterance.

    Parameters
    ----------
    graph : Transducer
    scores : (T, L) float32
        Log-likelihoods of the L labels, up to a constant of the frame.
    beam : float
        Tokens that cost so much more than the best of their frame are left, nats.
    lattice_beam : float
        Links on no path within so many nats of the best are not in the lattice.
    max_active : int
        Most tokens that are followed from one frame to the next: the cheapest.

    Returns
    -------
    Lattice or None
        None where no path comes to an end.
    """
    n_ranks = int(graph.states["rank"].max()) + 1
    links, ends, end_costs = _search(
        graph.states, graph.arcs, graph.start, n_ranks, scores, beam, lattice_beam, max_active
    )
    possible = np.isfinite(end_costs)
    return Lattice(links, ends[possible], end_costs[possible]) if possible.any() else None


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _search(
    states: _Records,
    arcs: _Records,
    start: int,
    n_ranks: int,
    scores: _Floats,
    beam: float,
    lattice_beam: float,
    max_active: int,
) -> tuple[_Records, _Ints, _Doubles]:
    """Return the links, the tokens of the last frame, and what ending in each of them costs."""
    n_frames = len(scores)
    at_state = np.full(len(states), -1, np.int32)  # token of each state in this frame
    tokens = np.empty(_FIRST_ROOM, _TOKEN)
    links = np.empty(_FIRST_ROOM, LINK)
    tokens[0].state, tokens[0].total = start, 0.0
    at_state[start] = 0
    n_tokens, n_links = 1, 0
    begin = 0  # first token of the frame
    for frame in range(n_frames + 1):
        tokens, n_tokens, links, n_links = _follow_frameless(
            states, arcs, n_ranks, beam, at_state, tokens, begin, n_tokens, links, n_links
        )
        for token in range(begin, n_tokens):
            at_state[tokens[token].state] = -1
        if frame == n_frames or (frame % PRUNE_EVERY == 0 and frame > 0):
            extra = _extra_costs(states, tokens, begin, n_tokens, frame == n_frames)
            begin, n_tokens, n_links = _prune(
                tokens, links, extra, begin, n_tokens, n_links, lattice_beam
            )
        if frame == n_frames or n_tokens == begin:
            break  # at the end, or with every path lost
        limit = _limit(tokens[begin:n_tokens], beam, max_active)
        before, begin = begin, n_tokens
        tokens, n_tokens, links, n_links = _follow_frame(
            states,
            arcs,
            scores[frame],
            limit,
            beam,
            at_state,
            tokens,
            before,
            begin,
            links,
            n_links,
        )
    ends = np.empty(n_tokens - begin, np.int32)
    end_costs = np.empty(n_tokens - begin, np.float64)
    for place in range(len(ends)):
        ends[place] = begin + place
        end_costs[place] = states[tokens[begin + place].state].final
    return links[:n_links].copy(), ends, end_costs


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _follow_frame(
    states: _Records,
    arcs: _Records,
    row: _Floats,
    limit: float,
    beam: float,
    at_state: _Ints,
    tokens: _Records,
    before: int,
    begin: int,
    links: _Records,
    n_links: int,
) -> tuple[_Records, int, _Records, int]:
    """Follow the arcs that use up a frame, from the tokens between `before` and `begin`."""
    n_tokens = begin
    best = np.inf
    for token in range(before, begin):
        total = tokens[token].total
        if total > limit:
            continue
        state = tokens[token].state
        for place in range(states[state].emitting, states[state + 1].first):
            arc = arcs[place]
            cost = arc.cost - row[arc.label - 1]
            reached = total + cost
            if reached > best + beam:
                continue
            best = min(best, reached)
            tokens, n_tokens = _reach(tokens, n_tokens, at_state, arc.target, reached)
            links = _link(links, n_links, token, at_state[arc.target], arc, cost)
            n_links += 1
    return tokens, n_tokens, links, n_links


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _follow_frameless(
    states: _Records,
    arcs: _Records,
    n_ranks: int,
    beam: float,
    at_state: _Ints,
    tokens: _Records,
    begin: int,
    n_tokens: int,
    links: _Records,
    n_links: int,
) -> tuple[_Records, int, _Records, int]:
    """Follow the arcs that use up no frame, from the tokens after `begin`.

    From the lower ranks to the higher ones: when a token is followed, all ways to it are known.
    """
    newest = np.full(n_ranks, -1, np.int32)  # token of each rank
    best = np.inf
    for token in range(begin, n_tokens):
        best = min(best, tokens[token].total)
        rank = states[tokens[token].state].rank
        tokens[token].same_rank = newest[rank]
        newest[rank] = token
    for rank in range(n_ranks):
        token = newest[rank]
        while token >= 0:
            total, state = tokens[token].total, tokens[token].state
            if total <= best + beam:
                for place in range(states[state].first, states[state].emitting):
                    arc = arcs[place]
                    reached = total + arc.cost
                    if reached > best + beam:
                        continue
                    last = n_tokens
                    tokens, n_tokens = _reach(tokens, n_tokens, at_state, arc.target, reached)
                    if n_tokens > last:
                        higher = states[arc.target].rank
                        tokens[last].same_rank = newest[higher]
                        newest[higher] = last
                    links = _link(links, n_links, token, at_state[arc.target], arc, arc.cost)
                    n_links += 1
            token = tokens[token].same_rank
    return tokens, n_tokens, links, n_links


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _reach(
    tokens: _Records, n_tokens: int, at_state: _Ints, state: int, total: float
) -> tuple[_Records, int]:
    """Put a token on a state, or lower the cost of the one there; return how many there are."""
    token = at_state[state]
    if token >= 0:
        tokens[token].total = min(tokens[token].total, total)
        return tokens, n_tokens
    if n_tokens == len(tokens):
        tokens = _more(tokens)
    at_state[state] = n_tokens
    tokens[n_tokens].state, tokens[n_tokens].total = state, total
    return tokens, n_tokens + 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _link(
    links: _Records, n_links: int, source: int, target: int, arc: Any, cost: float
) -> _Records:
    """Note that an arc leads from one token to another."""
    if n_links == len(links):
        links = _more(links)
    link = links[n_links]
    link.source, link.target, link.label, link.word = source, target, arc.label, arc.word
    link.cost = cost
    return links


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _limit(tokens: _Records, beam: float, max_active: int) -> float:
    """Return what a token may cost to be followed to the next frame.

    Where too many are within the beam, they are counted by how far behind the best they are, and
    the nearest classes are followed that are no more than `max_active` together.
    """
    best = np.inf
    for token in tokens:
        best = min(best, token.total)
    width = beam / _CLASSES
    counts = np.zeros(_CLASSES, np.int64)
    for token in tokens:
        behind = (token.total - best) / width
        if behind < _CLASSES:
            counts[int(behind)] += 1
    followed = counts[0]
    for classes in range(1, _CLASSES):
        if followed + counts[classes] > max_active:
            return best + classes * width
        followed += counts[classes]
    return best + beam


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _extra_costs(
    states: _Records, tokens: _Records, begin: int, n_tokens: int, last: bool
) -> _Doubles:
    """Return how much more than the best each token of a frame costs, infinity for earlier ones.

    Before the last frame every token counts as the best, since nobody knows what comes.
    """
    extra = np.full(n_tokens, np.inf)
    best = np.inf
    for token in range(begin, n_tokens):
        if last:
            extra[token] = tokens[token].total + states[tokens[token].state].final
            best = min(best, extra[token])
        else:
            extra[token] = 0.0
    if np.isfinite(best):
        for token in range(begin, n_tokens):
            extra[token] -= best
    return extra


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _prune(
    tokens: _Records,
    links: _Records,
    extra: _Doubles,
    begin: int,
    n_tokens: int,
    n_links: int,
    lattice_beam: float,
) -> tuple[int, int, int]:
    """Drop links, and tokens that they leave alone; return what `begin` and the numbers are now."""
    kept_links = np.zeros(n_links, np.bool_)
    for place in range(n_links - 1, -1, -1):
        link = links[place]
        detour = tokens[link.source].total + link.cost - tokens[link.target].total
        through = extra[link.target] + detour
        if through <= lattice_beam + _ROUNDING:
            kept_links[place] = True
            extra[link.source] = min(extra[link.source], through)
    numbers = np.full(n_tokens + 1, -1, np.int32)
    kept_tokens = 0
    for token in range(n_tokens):
        if token == begin:
            begin_now = kept_tokens
        if extra[token] <= lattice_beam + _ROUNDING:
            numbers[token] = kept_tokens
            tokens[kept_tokens] = tokens[token]
            kept_tokens += 1
    kept = 0
    for place in range(n_links):
        if kept_links[place]:
            links[kept] = links[place]
            links[kept].source = numbers[links[place].source]
            links[kept].target = numbers[links[place].target]
            kept += 1
    return begin_now, kept_tokens, kept


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _more(kept: _Records) -> _Records:
    wider = np.empty(2 * len(kept), kept.dtype)
    for place in range(len(kept)):  # compiles in a fraction of the time that a slice takes
        wider[place] = kept[place]
    return wider
