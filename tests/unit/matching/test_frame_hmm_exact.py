"""Posteriors, gain, likelihoods and prior of the model of frames, against plain sums."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from small_frame_hmm import OUTPUTS, PAUSE, RARE, STATES, corpus, join, model, pauses, spoken

from wav2vec_u.matching.decipherment import CodeLanguage
from wav2vec_u.matching.frame_hmm import PRIOR_FLOOR, FrameHmm, mean_probabilities
from wav2vec_u.matching.ngram_hmm import Floats, PhoneTransitions


def all_paths(
    hmm: FrameHmm, log_probs: Floats, others: Floats | None = None
) -> tuple[float, np.ndarray]:
    """Return the gain of one utterance without pauses and (S, V) posteriors, in plain Python.

    A path says for every frame which phone it is and whether it goes on with the frame before it
    or is a new phone, which may be the same one again.
    """
    others = np.zeros_like(log_probs) if others is None else others
    transitions, n, length = hmm.language.transitions, len(STATES), len(log_probs)
    unigram, trigram = transitions.unigram.tolist(), transitions.trigram.tolist()
    said = [sum(math.exp(float(row[k])) for k in STATES) for row in log_probs]  # no pause
    known = sum(float(hmm.prior[k]) for k in STATES)
    likelihoods = [
        [
            (math.exp(float(row[k])) / share / (float(hmm.prior[k]) / known + PRIOR_FLOOR))
            ** hmm.power
            * math.exp(float(other[k]))
            for k in STATES
        ]
        for row, other, share in zip(log_probs, others, said, strict=True)
    ]
    total = 0.0
    mass = np.zeros((length, OUTPUTS))
    for phones in product(range(n), repeat=length):
        heard = math.prod(row[phone] for row, phone in zip(likelihoods, phones, strict=True))
        for moves in product([False, True], repeat=length - 1):
            p = unigram[phones[0]] * heard
            now, before = phones[0], n  # nothing is known before the first phone
            for phone, moved in zip(phones[1:], moves, strict=True):
                if moved:
                    p *= (1 - hmm.stay) * trigram[now][before][phone]
                    now, before = phone, now
                else:
                    p *= hmm.stay if phone == now else 0.0
            total += p
            mass[np.arange(length), STATES[list(phones)]] += p
    return math.log(total), mass / total


# --- against all paths ---


@pytest.mark.parametrize(
    ("power", "stay", "mass"), [(0.6, 0.4, 1.0), (1.0, 0.1, 1.0), (0.3, 0.8, 1.0), (0.6, 0.4, 0.8)]
)
def test_posteriors_and_gain_are_the_sums_over_all_paths(
    power: float, stay: float, mass: float
) -> None:
    hmm = model(1, power=power, stay=stay, mass=mass)
    utterances = [spoken(length, seed) for seed, length in enumerate((5, 1, 4, 2))]
    read = hmm.read(utterances, threads=1)
    expected = [all_paths(hmm, rows) for rows in utterances]
    assert read.gain == pytest.approx(sum(gain for gain, _ in expected), abs=1e-3)
    assert read.voiced == 12
    for found, (_, posteriors) in zip(read.posteriors, expected, strict=True):
        np.testing.assert_allclose(found, posteriors, atol=1e-4)


def test_pauses_are_passed_over_as_if_they_were_not_there() -> None:
    hmm = model(2)
    rows = spoken(5, 7)
    # At the start, inside, at the end, and just above the bound.
    paused = join(pauses(2), rows[:2], pauses(1, 0.51), rows[2:4], pauses(3), rows[4:], pauses(1))
    voiced = [2, 3, 5, 6, 10]
    gain, posteriors = all_paths(hmm, rows)
    read = hmm.read([paused], threads=1)
    (found,) = read.posteriors
    assert read.gain == pytest.approx(gain, abs=1e-3)
    assert read.voiced == 5
    np.testing.assert_allclose(found[voiced], posteriors, atol=1e-4)
    certain = np.eye(OUTPUTS)[PAUSE]
    for t in set(range(len(paused))) - set(voiced):
        np.testing.assert_array_equal(found[t], certain)


def test_a_frame_is_a_pause_from_one_half_on() -> None:
    read = model().read([join(pauses(1, 0.49), pauses(1, 0.51))], threads=1)
    assert read.voiced == 1
    assert read.posteriors[0][:, PAUSE].tolist() == [0.0, 1.0]


def test_phones_that_are_no_states_and_pauses_get_nothing_of_what_is_spoken() -> None:
    rows = spoken(20, 3)
    rows[5] = np.log(0.01)
    rows[5, RARE[0]] = np.log(0.95)  # the network is sure of a phone that is too rare
    read = model().read([rows], threads=1)
    (found,) = read.posteriors
    assert found.shape == rows.shape
    assert not found[:, [PAUSE, *RARE]].any()
    np.testing.assert_allclose(found[:, STATES].sum(axis=1), 1, atol=1e-5)
    assert math.isfinite(read.gain)


# --- what another model says of the frames ---


def other_opinion(length: int, seed: int) -> Floats:
    """Return weighted log-likelihoods, of a density: they may be far from a distribution."""
    scores: Floats = np.random.default_rng(seed).normal(-20, 2, (length, OUTPUTS)).astype("f4")
    return scores


@pytest.mark.parametrize("power", [0.6, 1.0])
def test_with_others_posteriors_are_the_sums_over_all_paths(power: float) -> None:
    hmm = model(1, power=power)
    utterances = [spoken(length, seed) for seed, length in enumerate((5, 1, 4))]
    others = [other_opinion(len(rows), seed) for seed, rows in enumerate(utterances)]
    read = hmm.read(utterances, 1, others)
    without = hmm.read(utterances, threads=1)
    assert read.voiced == without.voiced == 10
    for found, alone, rows, other in zip(
        read.posteriors, without.posteriors, utterances, others, strict=True
    ):
        np.testing.assert_allclose(found, all_paths(hmm, rows, other)[1], atol=1e-4)
        assert np.abs(found - alone).max() > 0.05, "they change what is read"


def test_others_are_passed_over_with_the_pauses_of_the_network() -> None:
    hmm = model(2)
    rows, other = spoken(4, 7), other_opinion(4, 8)
    # The other model is sure that the pauses are phones, and has no say in it.
    loud = np.full((2, OUTPUTS), -50.0, np.float32)
    loud[:, STATES[0]] = 50.0
    (found,) = hmm.read(
        [join(rows[:2], pauses(2), rows[2:])], 1, [join(other[:2], loud, other[2:])]
    ).posteriors
    np.testing.assert_allclose(found[[0, 1, 4, 5]], all_paths(hmm, rows, other)[1], atol=1e-4)
    np.testing.assert_array_equal(found[2:4], np.eye(OUTPUTS)[[PAUSE, PAUSE]])


def test_others_that_know_nothing_change_nothing() -> None:
    hmm = model(3)
    utterances = corpus(10)
    rng = np.random.default_rng(0)
    uniform = [np.tile(rng.normal(size=(len(u), 1)), OUTPUTS).astype("f4") for u in utterances]
    expected = hmm.read(utterances, threads=1)
    found = hmm.read(utterances, 1, uniform)
    for one, other in zip(found.posteriors, expected.posteriors, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


# --- likelihoods ---


def test_likelihoods_are_weighted_and_divided_by_how_often_an_output_is_said() -> None:
    hmm = model(4, power=0.3)
    rows = join(spoken(7, 2), pauses(2))
    found = hmm.likelihoods(rows)
    assert found.shape == rows.shape
    for t, row in enumerate(rows):
        for output in range(OUTPUTS):
            expected = 0.3 * (float(row[output]) - math.log(float(hmm.prior[output]) + PRIOR_FLOOR))
            assert found[t, output] == pytest.approx(expected, abs=1e-4)
    assert hmm.likelihoods(rows[:0]).shape == (0, OUTPUTS)


def test_likelihoods_are_those_that_reading_goes_by() -> None:
    # A language that allows everything, and no pause: posteriors are normalised likelihoods.
    n = len(STATES)
    tables = [np.full(shape, 1 / n, np.float32) for shape in ((n,), (n, n), (n, n + 1, n))]
    hmm = FrameHmm(CodeLanguage(STATES, PhoneTransitions(*tables)), model(5).prior, 0.6, 1e-6)
    rows = spoken(9, 3)
    weights = np.exp(hmm.likelihoods(rows)[:, STATES])
    (found,) = hmm.read([rows], threads=1).posteriors
    np.testing.assert_allclose(
        found[:, STATES], weights / weights.sum(axis=1, keepdims=True), atol=1e-3
    )


# --- the prior ---


def test_mean_probabilities_weigh_every_frame_alike() -> None:
    long = np.tile(np.array([0.7, 0.2, 0.1], np.float32), (9, 1))
    short = np.array([[0.1, 0.3, 0.6]], np.float32)
    empty = np.empty((0, 3), np.float32)
    found = mean_probabilities(np.log(rows) for rows in (long, empty, short))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0.64, 0.21, 0.15], rtol=1e-5)


def test_mean_probabilities_of_many_frames_are_exact() -> None:
    rows = np.log(np.tile(np.array([0.9, 0.0999, 0.0001], np.float32), (200_000, 1)))
    found = mean_probabilities([rows] * 3)
    np.testing.assert_allclose(found, [0.9, 0.0999, 0.0001], rtol=1e-5)
