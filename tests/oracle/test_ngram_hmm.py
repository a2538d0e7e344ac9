"""Forward–backward against the sum over all paths, written out, on inputs small enough for it."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.matching.ngram_hmm import CHUNKS, Expectations, PhoneTransitions, expect


def random_transitions(n_phones: int, rng: np.random.Generator) -> PhoneTransitions:
    """Draw flat transitions; the row without a phone before it is no mean of the other rows."""
    unigram = rng.dirichlet(np.full(n_phones, 3.0))
    bigram = rng.dirichlet(np.full(n_phones, 3.0), size=n_phones)
    trigram = rng.dirichlet(np.full(n_phones, 3.0), size=(n_phones, n_phones + 1))
    return PhoneTransitions(
        unigram.astype(np.float32), bigram.astype(np.float32), trigram.astype(np.float32)
    )


@dataclass(frozen=True)
class Found:
    expectations: Expectations
    posteriors: np.ndarray


def run(
    order: int,
    utterances: list[list[int]],
    emissions: np.ndarray,
    transitions: PhoneTransitions,
    stay: float,
    threads: int = 1,
) -> Found:
    symbols = np.array([symbol for one in utterances for symbol in one], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in utterances])]).astype(np.int64)
    posteriors = np.full((len(symbols), emissions.shape[1]), np.nan, dtype=np.float32)
    with ThreadPoolExecutor(threads) as pool:
        expectations = expect(
            order,
            symbols,
            offsets,
            emissions.astype(np.float32),
            transitions,
            stay,
            posteriors,
            pool,
        )
    return Found(expectations, posteriors)


def all_paths(
    order: int,
    symbols: list[int],
    emissions: np.ndarray,
    transitions: PhoneTransitions,
    stay: float,
) -> tuple[float, np.ndarray]:
    """Return the likelihood of one utterance and (S, V) p(phone | utterance), in plain Python.

    A path says for every segment which phone it is and whether it goes on with the segment before
    it or is a new phone, which may be the same one again.
    """
    n_phones = emissions.shape[1]
    total = 0.0
    mass = np.zeros((len(symbols), n_phones))
    for phones in product(range(n_phones), repeat=len(symbols)):
        for moves in product([False, True], repeat=len(symbols) - 1):
            spoken = [phones[0]]
            p = float(transitions.unigram[phones[0]]) * float(emissions[symbols[0], phones[0]])
            for t in range(1, len(symbols)):
                if moves[t - 1]:
                    last = spoken[-1]
                    if order == 2:
                        p *= float(transitions.bigram[last, phones[t]])
                    else:
                        before = spoken[-2] if len(spoken) > 1 else n_phones
                        p *= float(transitions.trigram[last, before, phones[t]])
                    p *= 1 - stay
                    spoken.append(phones[t])
                else:
                    p *= stay if phones[t] == phones[t - 1] else 0.0
                p *= float(emissions[symbols[t], phones[t]])
            total += p
            mass[np.arange(len(symbols)), phones] += p
    return total, mass / total


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("stay", [0.05, 0.4])
def test_equals_the_sum_over_all_paths(order: int, stay: float) -> None:
    rng = np.random.default_rng(order)
    n_symbols, n_phones = 4, 3
    emissions = rng.uniform(0.2, 2.0, size=(n_symbols, n_phones))
    transitions = random_transitions(n_phones, rng)
    utterances = [rng.integers(n_symbols, size=length).tolist() for length in (5, 1, 4, 2, 5, 3)]
    found = run(order, utterances, emissions, transitions, stay)

    log_likelihood = 0.0
    counts = np.zeros((n_symbols, n_phones))
    posteriors = []
    for symbols in utterances:
        likelihood, posterior = all_paths(order, symbols, emissions, transitions, stay)
        log_likelihood += math.log(likelihood)
        np.add.at(counts, symbols, posterior)
        posteriors.append(posterior)
    assert found.expectations.log_likelihood == pytest.approx(log_likelihood, rel=1e-5)
    np.testing.assert_allclose(found.posteriors, np.concatenate(posteriors), atol=1e-5)
    np.testing.assert_allclose(found.expectations.counts, counts, atol=1e-4)


def log_forward_backward(
    symbols: list[int], emissions: np.ndarray, transitions: PhoneTransitions, stay: float
) -> tuple[float, np.ndarray]:
    """Do the trigram's sums with one big matrix over the states (phone, phone before), in logs."""
    n_phones = emissions.shape[1]
    states = [(y, x) for y in range(n_phones) for x in range(n_phones + 1)]
    step = np.zeros((len(states), len(states)))
    for i, (y, x) in enumerate(states):
        step[i, i] += stay
        for z in range(n_phones):
            step[i, states.index((z, y))] += (1 - stay) * float(transitions.trigram[y, x, z])
    with np.errstate(divide="ignore"):
        log_step = np.log(step)
    log_emissions = np.log(emissions)[:, [y for y, _ in states]]  # (K, states)
    start = np.full(len(states), -np.inf)
    for i, (y, x) in enumerate(states):
        if x == n_phones:
            start[i] = math.log(float(transitions.unigram[y]))
    forward = [start + log_emissions[symbols[0]]]
    for symbol in symbols[1:]:
        reached = np.logaddexp.reduce(forward[-1][:, None] + log_step, axis=0)
        forward.append(reached + log_emissions[symbol])
    backward = [np.zeros(len(states))]
    for symbol in reversed(symbols[1:]):
        ahead = log_step + log_emissions[symbol] + backward[-1]
        backward.append(np.logaddexp.reduce(ahead, axis=1))
    total = float(np.logaddexp.reduce(forward[-1]))
    by_state = np.exp(np.array(forward) + np.array(backward[::-1]) - total)  # (S, states)
    posteriors = by_state.reshape(len(symbols), n_phones, n_phones + 1).sum(axis=2)
    return total, posteriors


def test_long_utterances_and_sharp_emissions_keep_their_precision() -> None:
    rng = np.random.default_rng(5)
    n_symbols, n_phones = 8, 5
    emissions = rng.gamma(0.3, size=(n_symbols, n_phones)) + 1e-4
    transitions = random_transitions(n_phones, rng)
    symbols = rng.integers(n_symbols, size=800).tolist()
    found = run(3, [symbols], emissions, transitions, stay=0.2)
    likelihood, posteriors = log_forward_backward(symbols, emissions, transitions, stay=0.2)
    # What is passed over is a state in 30,000: it shows in the fourth digit.
    assert found.expectations.log_likelihood == pytest.approx(likelihood, rel=1e-3)
    np.testing.assert_allclose(found.posteriors, posteriors, atol=2e-3)


def test_a_trigram_that_ignores_the_phone_before_is_the_bigram() -> None:
    rng = np.random.default_rng(6)
    flat = random_transitions(6, rng)
    same = np.repeat(flat.bigram[:, None, :], 7, axis=1)  # (V, V + 1, V)
    transitions = PhoneTransitions(flat.unigram, flat.bigram, same)
    emissions = rng.uniform(0.2, 2.0, size=(9, 6))
    utterances = [rng.integers(9, size=length).tolist() for length in (30, 7, 12)]
    two, three = (run(order, utterances, emissions, transitions, 0.3) for order in (2, 3))
    assert two.expectations.log_likelihood == pytest.approx(
        three.expectations.log_likelihood, rel=1e-4
    )
    np.testing.assert_allclose(two.posteriors, three.posteriors, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(
    order=st.sampled_from([2, 3]),
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=3 * CHUNKS),
    seed=st.integers(0, 1_000),
)
def test_every_segment_is_counted_once_whatever_the_lengths(
    order: int, lengths: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    emissions = rng.uniform(0.1, 3.0, size=(5, 4))
    transitions = random_transitions(4, rng)
    utterances = [rng.integers(5, size=length).tolist() for length in [*lengths, 3]]
    found = run(order, utterances, emissions, transitions, 0.2)
    np.testing.assert_allclose(found.posteriors.sum(axis=1), 1, atol=1e-5)
    symbols = [symbol for one in utterances for symbol in one]
    occurred = np.bincount(symbols, minlength=5)
    np.testing.assert_allclose(found.expectations.counts.sum(axis=1), occurred, atol=1e-4)
    # Utterances know nothing of each other.
    alone = run(order, [utterances[-1]], emissions, transitions, 0.2)
    np.testing.assert_allclose(found.posteriors[-3:], alone.posteriors, atol=1e-6)


@pytest.mark.parametrize("order", [2, 3])
def test_threads_do_not_change_a_bit(order: int) -> None:
    rng = np.random.default_rng(7)
    emissions = rng.gamma(0.5, size=(20, 8)) + 1e-3
    transitions = random_transitions(8, rng)
    utterances = [rng.integers(20, size=length).tolist() for length in rng.integers(1, 40, 60)]
    one, several = (
        run(order, utterances, emissions, transitions, 0.2, threads) for threads in (1, 5)
    )
    assert one.expectations.log_likelihood == several.expectations.log_likelihood
    np.testing.assert_array_equal(one.expectations.counts, several.expectations.counts)
    np.testing.assert_array_equal(one.posteriors, several.posteriors)
