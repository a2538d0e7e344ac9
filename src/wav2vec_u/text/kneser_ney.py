"""Interpolated modified Kneser–Ney estimation (Chen & Goodman, 1998), as KenLM's lmplz does it.

Heafield et al. (2013), *Scalable Modified Kneser-Ney Language Model Estimation*. With adjusted
counts ``c`` (the count itself for the highest order and for n-grams that begin with <s>, the number
of different tokens before it otherwise) and ``h'`` the context without its first token::

    p(w | h) = (c(hw) - D(c(hw))) / sum_v c(hv) + gamma(h) p(w | h')

where ``gamma(h)`` is the mass that the discounts D took from the n-grams of the context. Unigrams
are interpolated with the uniform distribution over the seen symbols, </s> and <unk>.

Rare n-grams can be left out; what they would have had goes to the shorter ones, by ``gamma(h)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.text.ngram_table import END, START, UNKNOWN, FramedSentences, NgramTable, frame

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # lmplz --discount_fallback
_CHUNK_TOKENS = 2_000_000
_LEAST_PROBABILITY = 1e-99  # instead of the logarithm of zero
_Counts = tuple[NDArray[np.int64], NDArray[np.int64]]  # sorted keys, counts


def estimate(
    sentences: Iterable[NDArray[np.integer]],
    n_symbols: int,
    order: int,
    base: int,
    prune: Sequence[int] = (),
) -> list[NgramTable]:
    """Estimate the tables of orders 1 to `order`.

    Parameters
    ----------
    sentences : iterable of ndarray
        Symbol ids; read once, and not held in memory together.
    n_symbols : int
        Ids are below this.
    order : int
        Highest order, at least 2.
    base : int
        `ngram_table.key_base` of the two.
    prune : sequence of int
        For the orders 2, 3, ...: n-grams whose adjusted count is no higher are left out, unless a
        longer one that stays needs them. Orders without a number lose nothing.

    Raises
    ------
    ValueError
        If there is no sentence, or an id is out of range.
    """
    counts = count_ngrams(sentences, n_symbols, order, base)
    kept = _kept(counts.adjusted, prune, base)
    tables: list[NgramTable] = []
    for n in range(1, order + 1):
        keys, adjusted = counts.adjusted[n - 1]
        discount = discounts(counts.for_discounts(n))[np.minimum(adjusted, 3)]
        if n == 1:
            tables.append(_unigrams(keys, adjusted, discount))
        else:
            taken = np.where(kept[n - 1], discount, adjusted)
            tables[-1], table = _interpolate(
                keys, adjusted, taken, kept[n - 1], tables[-1], n, base
            )
            tables.append(table)
    return tables


def _kept(adjusted: list[_Counts], prune: Sequence[int], base: int) -> list[NDArray[np.bool_]]:
    """Tell for the orders 1, 2, ... which n-grams stay: the frequent ones, and parts of those."""
    thresholds = [0, *prune, *[0] * len(adjusted)]
    masks: list[NDArray[np.bool_]] = []
    longer = np.empty(0, dtype=np.int64)
    for n in range(len(adjusted), 0, -1):
        keys, counts = adjusted[n - 1]
        mask = counts > thresholds[n - 1]
        for needed in (longer // base, longer % base**n):  # contexts, and what backing off meets
            places = np.searchsorted(keys, needed)
            # <s> and what begins with it is given and never predicted: it may not be there.
            there = keys[np.minimum(places, len(keys) - 1)] == needed
            mask[places[there]] = True
        masks.insert(0, mask)
        longer = keys[mask]
    return masks


@dataclass(frozen=True)
class NgramCounts:
    """What the model is estimated from.

    Attributes
    ----------
    adjusted : list
        Sorted keys and adjusted counts of orders 1, 2, ...
    last_actual : list
        For the orders 1, 2, ... (maybe not up to the highest): the key and the actual count of the
        n-gram that lmplz comes to last.
    """

    adjusted: list[_Counts]
    last_actual: list[tuple[int, int]]

    def for_discounts(self, n: int) -> NDArray[np.int64]:
        """Return the counts that the discounts of order `n` are computed from.

        lmplz enters the last n-gram of every lower order with its actual instead of its adjusted
        count (the end of ``AdjustCounts::Run``). Among the few different n-grams of phones this
        one count moves probabilities by up to 1 %, so we do the same.
        """
        keys, counts = self.adjusted[n - 1]
        if n <= len(self.last_actual):
            key, actual = self.last_actual[n - 1]
            counts = counts.copy()
            counts[np.searchsorted(keys, key)] = actual
        return counts


def count_ngrams(
    sentences: Iterable[NDArray[np.integer]], n_symbols: int, order: int, base: int
) -> NgramCounts:
    """Count the n-grams of orders 1 to `order`; parameters and errors as for `estimate`."""
    # Only the highest order and n-grams that begin with <s> keep their actual counts.
    actual: list[_Counts] = [(np.empty(0, dtype=np.int64),) * 2 for _ in range(order)]
    appearance: dict[int, None] = {}  # tokens in the order in which they first appear
    for chunk in _chunks(sentences):
        framed = frame(chunk, n_symbols)
        tokens, firsts = np.unique(framed.tokens, return_index=True)
        appearance |= dict.fromkeys(tokens[np.argsort(firsts)].tolist())
        for n in range(2, order + 1):
            keys = _windows(framed, n, base) if n == order else _sentence_starts(framed, n, base)
            actual[n - 1] = _add(actual[n - 1], np.unique(keys, return_counts=True))
    if not appearance:
        raise ValueError("no sentence to estimate an n-gram model from")
    adjusted = [actual[order - 1]]
    for n in range(order - 1, 0, -1):
        longer_keys, _ = adjusted[0]
        # A distinct (n+1)-gram is one distinct token before its last n tokens.
        continuations = np.unique(longer_keys % base**n, return_counts=True)
        adjusted.insert(0, _add(continuations, actual[n - 1]))
    return NgramCounts(adjusted, _last_actual(adjusted, actual, list(appearance), base))


def _last_actual(
    adjusted: list[_Counts], actual: list[_Counts], appearance: list[int], base: int
) -> list[tuple[int, int]]:
    """Find the n-grams that lmplz comes to last, and count them.

    lmplz numbers <s>, </s> and then the words as they appear, and sorts n-grams by their last
    word, then by the one before it, and so on.
    """
    rank = np.zeros(base, dtype=np.int64)
    words = [token for token in appearance if token not in (START, END)]
    rank[[START, END, *words]] = np.arange(len(words) + 2)
    found: list[tuple[int, int]] = []
    suffix, n = 0, 0
    for n, (keys, _) in enumerate(adjusted[:-1], start=1):
        ending = keys[keys % base ** (n - 1) == suffix]
        if len(ending) == 0:  # the n-gram before began with <s>
            break
        suffix = int(ending[np.argmax(rank[ending // base ** (n - 1)])])
        count = sum(
            int(counts[longer % base**n == suffix].sum()) for longer, counts in actual[n - 1 :]
        )
        found.append((suffix, count))
    return found


def discounts(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return D(0), D(1), D(2), D(3 and more) by Chen & Goodman's equation 26.

    Where the counts of counts do not allow it (some are zero, or a discount falls out of its
    range), `FALLBACK_DISCOUNTS` stand in for all three, as in lmplz.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == k)) for k in (1, 2, 3, 4))
    fallback = np.array([0.0, *FALLBACK_DISCOUNTS])
    if not (n1 and n2 and n3):
        return fallback
    y = n1 / (n1 + 2 * n2)
    closed_form = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    in_range = np.all((closed_form >= 0) & (closed_form <= np.arange(4)))
    return closed_form if in_range else fallback


def _chunks(
    sentences: Iterable[NDArray[np.integer]],
) -> Iterator[list[NDArray[np.integer]]]:
    chunk: list[NDArray[np.integer]] = []
    tokens = 0
    for sentence in sentences:
        chunk.append(sentence)
        tokens += len(sentence) + 2
        if tokens >= _CHUNK_TOKENS:
            yield chunk
            chunk, tokens = [], 0
    if chunk:
        yield chunk


def _windows(framed: FramedSentences, order: int, base: int) -> NDArray[np.int64]:
    """Return the keys of all n-grams of one order that lie inside a sentence."""
    n_windows = max(0, len(framed.tokens) - order + 1)
    keys = np.zeros(n_windows, dtype=np.int64)
    for k in range(order):
        keys *= base
        keys += framed.tokens[k : k + n_windows]
    last_place = np.repeat(framed.ends, framed.ends - framed.starts)[:n_windows] - order
    return keys[np.arange(n_windows) <= last_place]


def _sentence_starts(framed: FramedSentences, order: int, base: int) -> NDArray[np.int64]:
    """Return the keys of the n-grams that begin with <s>."""
    starts = framed.starts[framed.ends - framed.starts >= order]
    keys = np.zeros(len(starts), dtype=np.int64)
    for k in range(order):
        keys = keys * base + framed.tokens[starts + k]
    return keys


def _add(one: _Counts, other: _Counts) -> _Counts:
    keys, places = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    counts = np.zeros(len(keys), dtype=np.int64)
    np.add.at(counts, places, np.concatenate([one[1], other[1]]))
    return keys, counts


def _unigrams(
    keys: NDArray[np.int64], counts: NDArray[np.int64], discount: NDArray[np.float64]
) -> NgramTable:
    total = counts.sum()
    uniform = discount.sum() / total / (len(keys) + 1)  # over the seen tokens and <unk>
    probs = np.concatenate([[uniform, 1.0], (counts - discount) / total + uniform])
    # <unk> and <s> sort before all seen tokens; <s> is given, never predicted: log10 p = 0.
    all_keys = np.concatenate([[UNKNOWN, START], keys])
    return NgramTable(all_keys, np.log10(probs), np.zeros(len(probs)))


def _interpolate(
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
    taken: NDArray[np.float64],
    kept: NDArray[np.bool_],
    lower: NgramTable,
    n: int,
    base: int,
) -> tuple[NgramTable, NgramTable]:
    """Return the lower table with its backoff weights, and the table of order `n`.

    `taken` is what every n-gram gives to the shorter ones: its discount, or all that it has where
    it is not `kept`.
    """
    contexts, group = np.unique(keys // base, return_inverse=True)
    totals = np.bincount(group, weights=counts, minlength=len(contexts))
    gammas = np.bincount(group, weights=taken, minlength=len(contexts)) / totals
    keys, group = keys[kept], group[kept]
    suffixes = lower.find(keys % base ** (n - 1))
    probs = (counts - taken)[kept] / totals[group]
    probs += gammas[group] * 10.0 ** lower.log10_probs[suffixes]
    backoffs = lower.log10_backoffs.copy()
    places = lower.find(contexts)
    # A context that was left out has lost all that follow it, and backs off for nothing.
    backoffs[places[places >= 0]] = _log10(gammas[places >= 0])
    return (
        NgramTable(lower.keys, lower.log10_probs, backoffs),
        NgramTable(keys, np.minimum(_log10(probs), 0.0), np.zeros(len(keys))),
    )


def _log10(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log10(np.maximum(values, _LEAST_PROBABILITY))
