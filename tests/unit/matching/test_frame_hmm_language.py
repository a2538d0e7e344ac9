"""What the language is good for to the model of frames, on sequences whose phones are known."""

from __future__ import annotations

import numpy as np
import pytest
from small_frame_hmm import OUTPUTS, PAUSE, STATES, join, model, random_language

from wav2vec_u.matching.decipherment import CodeLanguage, learn_language
from wav2vec_u.matching.frame_hmm import FrameHmm, mean_probabilities
from wav2vec_u.matching.ngram_hmm import Floats, PhoneTransitions
from wav2vec_u.testing.planted import PlantedText

STAY = 0.8


def ring() -> CodeLanguage:
    """Return a language that goes round: 1 to 3 to 4 to 1, and hardly ever elsewhere."""
    n = len(STATES)
    bigram = np.full((n, n), 0.02)
    bigram[np.arange(n), (np.arange(n) + 1) % n] = 0.96
    trigram = np.repeat(bigram[:, None, :], n + 1, axis=1)
    tables = (np.full(n, 1 / n), bigram, trigram)
    return CodeLanguage(STATES, PhoneTransitions(*(table.astype(np.float32) for table in tables)))


def ring_speech(length: int, stay: float, rng: np.random.Generator) -> np.ndarray:
    steps = rng.random(length) >= stay
    return STATES[(int(rng.integers(len(STATES))) + np.cumsum(steps)) % len(STATES)]


def network_output(phones: np.ndarray, sure: float) -> Floats:
    """Return log-probabilities that give `sure` to a phone and the rest to all the outputs."""
    rows = np.full((len(phones), OUTPUTS), (1 - sure) / OUTPUTS)
    rows[np.arange(len(phones)), phones] += sure
    logs: Floats = np.log(rows).astype(np.float32)
    return logs


def mishearing(length: int, seed: int = 0) -> tuple[np.ndarray, Floats]:
    """Return the phones of a ring, and what a network says that takes every fifth for another."""
    rng = np.random.default_rng(seed)
    truth = ring_speech(length, STAY, rng)
    heard = np.where(rng.random(length) < 0.2, rng.choice(STATES, size=length), truth)
    return truth, network_output(heard, 0.6)


def reader(log_probs: Floats, stay: float = STAY) -> FrameHmm:
    language = ring()
    return FrameHmm(language, mean_probabilities([log_probs]), 1.0, stay)


# --- what it mends ---


def test_the_language_mends_what_the_network_misheard() -> None:
    truth, rows = mishearing(2_000)
    found = reader(rows).read([rows], threads=1).posteriors[0]
    network_errors = float((rows.argmax(axis=1) != truth).mean())
    errors = float((found.argmax(axis=1) != truth).mean())
    assert network_errors > 0.1
    assert errors < 0.7 * network_errors


def test_posteriors_say_how_often_the_best_phone_is_right() -> None:
    truth, rows = mishearing(4_000)
    found = reader(rows).read([rows], threads=1).posteriors[0]
    right = found.argmax(axis=1) == truth
    assert found.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.05)


def test_a_phone_that_cannot_be_heard_is_told_by_the_phone_before_the_last() -> None:
    n = len(STATES)
    # After 1 3 comes 4, after 4 3 comes 1; by the last phone alone both are as likely.
    trigram = np.full((n, n + 1, n), 1 / n)
    trigram[1, 0] = [0.04, 0.0, 0.96]
    trigram[1, 2] = [0.96, 0.0, 0.04]
    language = CodeLanguage(
        STATES,
        PhoneTransitions(
            np.full(n, 1 / n, np.float32), trigram[:, n].astype(np.float32), trigram.astype("f4")
        ),
    )
    hmm = FrameHmm(language, np.full(OUTPUTS, 1 / OUTPUTS, np.float32), 1.0, 0.01)
    nothing = network_output(np.array([1]), 0.0)
    for phones, expected in (([1, 3], 4), ([4, 3], 1)):
        rows = join(network_output(np.array(phones), 0.98), nothing)
        last = hmm.read([rows], threads=1).posteriors[0][-1]
        assert last.argmax() == expected
        assert last[expected] > 0.8


def test_power_flattens_the_posteriors() -> None:
    truth = ring_speech(200, STAY, np.random.default_rng(1))
    rows = network_output(truth, 0.5)
    prior = mean_probabilities([rows])
    language = random_language(np.random.default_rng(0))
    sharp, flat = (
        FrameHmm(language, prior, power, 0.2).read([rows], threads=1).posteriors[0].max(axis=1)
        for power in (1.0, 0.2)
    )
    assert flat.mean() < sharp.mean() - 0.1


def test_a_language_learned_from_text_keeps_its_ids() -> None:
    # "g" never occurs and "r" is too rare: neither is a state, and ids are those of the inventory.
    names = ("<SIL>", "a", "g", "b", "c", "d", "r", "e")
    a, b, c, d, r, e = 1, 3, 4, 5, 6, 7
    sentences = [[[a, b, c, d, e, a, b, c]], [[b, c, d, e, a, b]]] * 20 + [[[a, r]]]
    language = learn_language(PlantedText(names, sentences), min_phone_share=0.02)
    truth = np.array([a, a, b, c, d, d, e, a, b])
    rows = np.full((len(truth), len(names)), 0.02)
    rows[np.arange(len(truth)), truth] = 0.86
    rows[3] = 1 / len(names)  # heard by nobody; between b and d it can only be c
    hmm = FrameHmm(language, np.full(len(names), 1 / len(names), np.float32), 1.0, 0.3)
    read = hmm.read([np.log(rows).astype(np.float32)], threads=1)
    np.testing.assert_array_equal(read.posteriors[0].argmax(axis=1), truth)
    assert not read.posteriors[0][:, [PAUSE, 2, r]].any()


# --- what it gains ---


def test_a_network_that_knows_nothing_gains_nothing() -> None:
    hmm = model(6)
    rows = np.tile(np.log(np.array([0.1, 0.2, 0.15, 0.25, 0.2, 0.1], np.float32)), (50, 1))
    ignorant = FrameHmm(hmm.language, mean_probabilities([rows]), hmm.power, hmm.stay)
    read = ignorant.read([rows, rows[:7]], threads=1)
    assert read.gain / read.voiced == pytest.approx(0, abs=1e-3)


def test_a_network_that_hears_the_language_gains() -> None:
    truth = ring_speech(400, STAY, np.random.default_rng(1))
    clear, faint = (network_output(truth, sure) for sure in (0.8, 0.3))
    gains = [reader(rows).read([rows], threads=1).gain / 400 for rows in (clear, faint)]
    assert gains[0] > 0.4
    assert gains[0] > 1.5 * gains[1] > 0
    # The same frames in no order say the same phones as often, and are no language.
    shuffled = np.random.default_rng(2).permutation(clear)
    assert reader(shuffled).read([shuffled], threads=1).gain / 400 < gains[0] - 0.3


def test_the_gain_is_a_sum_over_frames_of_all_utterances() -> None:
    truth = ring_speech(50, STAY, np.random.default_rng(1))
    rows = network_output(truth, 0.8)
    hmm = reader(rows)
    once, thrice = (hmm.read([rows] * count, threads=1) for count in (1, 3))
    assert thrice.voiced == 3 * once.voiced == 150
    assert thrice.gain == pytest.approx(3 * once.gain, rel=1e-5)
