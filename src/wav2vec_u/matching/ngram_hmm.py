"""Forward–backward over phones with an n-gram language model as transitions, compiled.

The hidden state is the phone of a segment together with the phones before it that the language
model looks at. A segment either goes on with the phone of the segment before it (probability
``stay``) or moves to the next phone of the language model. Emissions come as one row of
likelihoods for every symbol, so the same code serves codes (one row a code) and frames (one row a
segment).

Rabiner (1989), *A tutorial on hidden Markov models*, section III; states whose forward probability
is below a threshold are passed over, which makes late iterations ten times as fast as early ones.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

CHUNKS = 16  # parts of the corpus summed in a fixed order, so that threads do not change results
PRUNE = 3e-5  # forward probability below which a state is passed over

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PhoneTransitions:
    """Probabilities of the next phone, for V phones.

    Attributes
    ----------
    unigram : ndarray, shape (V,)
        Of the first phone of an utterance.
    bigram : ndarray, shape (V, V)
        ``[y, z]`` is p(z | y).
    trigram : ndarray, shape (V, V + 1, V)
        ``[y, x, z]`` is p(z | x y); row ``x = V`` stands for "nothing known before y".
    """

    unigram: Floats
    bigram: Floats
    trigram: Floats


@dataclass(frozen=True)
class Expectations:
    """What one pass of forward–backward expects.

    Attributes
    ----------
    counts : ndarray, shape (K, V), float64
        Expected number of times that each symbol stands for each phone.
    log_likelihood : float
        Of all symbols, natural logarithm.
    """

    counts: NDArray[np.float64]
    log_likelihood: float


def expect(
    order: int,
    symbols: NDArray[np.int32],
    offsets: NDArray[np.int64],
    emissions: Floats,
    transitions: PhoneTransitions,
    stay: float,
    posteriors: Floats,
    pool: ThreadPoolExecutor,
) -> Expectations:
    """Run forward–backward over all utterances.

    Parameters
    ----------
    order : int
        2 for the bigram, 3 for the trigram.
    symbols : ndarray, shape (S,)
        Symbol of each segment, the rows of `emissions`; utterances one behind the other.
    offsets : ndarray, shape (U + 1,)
        Where each utterance begins; the last is S.
    emissions : ndarray, shape (K, V)
        Likelihood of each symbol for each phone, up to a factor of the symbol.
    transitions : PhoneTransitions
    stay : float
        Probability that a segment goes on with the phone before it.
    posteriors : ndarray, shape (S, V)
        Filled with p(phone | utterance) of every segment.
    pool : ThreadPoolExecutor
        Runs the parts of the corpus.
    """
    n_segments, n_phones = posteriors.shape
    cuts = np.searchsorted(offsets, np.linspace(0, n_segments, CHUNKS + 1))
    cuts[-1] = len(offsets) - 1
    longest = int(np.diff(offsets).max(initial=1))
    counts = np.zeros((CHUNKS, len(emissions), n_phones))
    table = transitions.bigram if order == 2 else transitions.trigram
    run: Any = _bigram_pass if order == 2 else _trigram_pass

    def part(chunk: int) -> float:
        return float(
            run(
                symbols,
                offsets,
                cuts[chunk],
                cuts[chunk + 1],
                emissions,
                table,
                transitions.unigram,
                np.float32(stay),
                np.float32(PRUNE),
                longest,
                counts[chunk],
                posteriors,
            )
        )

    log_likelihoods = list(pool.map(part, range(CHUNKS)))
    return Expectations(counts.sum(axis=0), sum(log_likelihoods))


# Not fastmath, which makes sums depend on where in memory the arrays happen to lie (measured).
@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _bigram_pass(
    symbols: Any,
    offsets: Any,
    first: int,
    last: int,
    emissions: Any,
    bigram: Any,
    unigram: Any,
    stay: Any,
    prune: Any,
    longest: int,
    counts: Any,
    posteriors: Any,
) -> float:
    n_phones = emissions.shape[1]
    forward = np.zeros((longest, n_phones), np.float32)
    scale = np.zeros(longest, np.float32)
    backward = np.zeros(n_phones, np.float32)
    weighted = np.zeros(n_phones, np.float32)
    moved = np.zeros(n_phones, np.float32)
    move = np.float32(1) - stay
    log_likelihood = 0.0
    for u in range(first, last):
        start = offsets[u]
        length = offsets[u + 1] - start
        for t in range(length):
            row = emissions[symbols[start + t]]
            total = np.float32(0)
            if t == 0:
                for z in range(n_phones):
                    forward[0, z] = unigram[z] * row[z]
                    total += forward[0, z]
            else:
                moved[:] = 0
                for y in range(n_phones):
                    value = forward[t - 1, y] * move
                    if value > prune:
                        for z in range(n_phones):
                            moved[z] += value * bigram[y, z]
                for z in range(n_phones):
                    forward[t, z] = (moved[z] + stay * forward[t - 1, z]) * row[z]
                    total += forward[t, z]
            for z in range(n_phones):
                forward[t, z] /= total
            scale[t] = total
            log_likelihood += np.log(total)
        backward[:] = 1
        for t in range(length - 1, -1, -1):
            symbol = symbols[start + t]
            total = np.float32(0)
            for y in range(n_phones):
                total += forward[t, y] * backward[y]
            for y in range(n_phones):
                value = forward[t, y] * backward[y] / total
                counts[symbol, y] += value
                posteriors[start + t, y] = value
            if t > 0:
                for z in range(n_phones):
                    weighted[z] = backward[z] * emissions[symbol, z] / scale[t]
                for y in range(n_phones):
                    value = np.float32(0)
                    for z in range(n_phones):
                        value += bigram[y, z] * weighted[z]
                    backward[y] = value * move + stay * weighted[y]
    return log_likelihood


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _trigram_pass(
    symbols: Any,
    offsets: Any,
    first: int,
    last: int,
    emissions: Any,
    trigram: Any,
    unigram: Any,
    stay: Any,
    prune: Any,
    longest: int,
    counts: Any,
    posteriors: Any,
) -> float:
    # State [y, x]: phone y now, phone x before it; x == n_phones where nothing is known before y.
    n_phones = emissions.shape[1]
    n_before = n_phones + 1
    forward = np.zeros((longest, n_phones, n_before), np.float32)
    scale = np.zeros(longest, np.float32)
    backward = np.zeros((n_phones, n_before), np.float32)
    weighted = np.zeros((n_phones, n_before), np.float32)  # [z, y]
    turned = np.zeros((n_phones, n_phones), np.float32)  # [y, z]: the same, for contiguous sums
    moved = np.zeros((n_phones, n_phones), np.float32)  # [y, z]
    marginal = np.zeros(n_phones, np.float32)
    move = np.float32(1) - stay
    log_likelihood = 0.0
    for u in range(first, last):
        start = offsets[u]
        length = offsets[u + 1] - start
        for t in range(length):
            row = emissions[symbols[start + t]]
            now = forward[t]
            total = np.float32(0)
            if t == 0:
                now[:] = 0
                for y in range(n_phones):
                    now[y, n_phones] = unigram[y] * row[y]
                    total += now[y, n_phones]
            else:
                before = forward[t - 1]
                for y in range(n_phones):
                    target = moved[y]
                    target[:] = 0
                    for x in range(n_before):
                        value = before[y, x]
                        if value > prune:
                            source = trigram[y, x]
                            for z in range(n_phones):
                                target[z] += value * source[z]
                for z in range(n_phones):
                    held = stay * row[z]
                    new = move * row[z]
                    for y in range(n_phones):
                        value = moved[y, z] * new + held * before[z, y]
                        now[z, y] = value
                        total += value
                    value = held * before[z, n_phones]
                    now[z, n_phones] = value
                    total += value
            inverse = np.float32(1) / total
            for y in range(n_phones):
                for x in range(n_before):
                    now[y, x] *= inverse
            scale[t] = total
            log_likelihood += np.log(total)
        backward[:] = 1
        for t in range(length - 1, -1, -1):
            symbol = symbols[start + t]
            now = forward[t]
            total = np.float32(0)
            for y in range(n_phones):
                value = np.float32(0)
                for x in range(n_before):
                    value += now[y, x] * backward[y, x]
                marginal[y] = value
                total += value
            for y in range(n_phones):
                value = marginal[y] / total
                counts[symbol, y] += value
                posteriors[start + t, y] = value
            if t > 0:
                for z in range(n_phones):
                    factor = emissions[symbol, z] / scale[t]
                    for y in range(n_before):
                        value = backward[z, y] * factor
                        weighted[z, y] = value
                        if y < n_phones:
                            turned[y, z] = value
                before = forward[t - 1]
                for y in range(n_phones):
                    for x in range(n_before):
                        # What forward passed over has no posterior either.
                        if before[y, x] > prune:
                            source = trigram[y, x]
                            value = np.float32(0)
                            for z in range(n_phones):
                                value += source[z] * turned[y, z]
                            backward[y, x] = value * move + stay * weighted[y, x]
                        else:
                            backward[y, x] = 0
    return log_likelihood
