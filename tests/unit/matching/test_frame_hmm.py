"""The model of frames against the sum over all its paths, and on sequences whose phones are known.

Six outputs: the pause, three phones that are states, and two that are too rare to be any.
"""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from wav2vec_u.matching.decipherment import CodeLanguage, learn_language
from wav2vec_u.matching.frame_hmm import PRIOR_FLOOR, FrameHmm, mean_probabilities
from wav2vec_u.matching.ngram_hmm import Floats, PhoneTransitions
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.planted import PlantedText

OUTPUTS = 6
PAUSE = 0
STATES = np.array([1, 3, 4])
RARE = [2, 5]


def random_language(rng: np.random.Generator, mass: float = 1.0) -> CodeLanguage:
    """Draw transitions; a `mass` below one leaves something for the end of a sentence."""
    n = len(STATES)
    tables = (
        rng.dirichlet(np.full(n, 3.0)),
        mass * rng.dirichlet(np.full(n, 3.0), size=n),
        mass * rng.dirichlet(np.full(n, 3.0), size=(n, n + 1)),
    )
    return CodeLanguage(STATES, PhoneTransitions(*(table.astype(np.float32) for table in tables)))


def model(seed: int = 0, *, power: float = 0.6, stay: float = 0.4, mass: float = 1.0) -> FrameHmm:
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.full(OUTPUTS, 4.0)).astype(np.float32)
    return FrameHmm(random_language(rng, mass), prior, power, stay)


def spoken(length: int, seed: int) -> Floats:
    """Return log-probabilities, none of them of a pause."""
    rng = np.random.default_rng(seed)
    pause = rng.uniform(0.01, 0.45, size=(length, 1))
    rows = (1 - pause) * rng.dirichlet(np.full(OUTPUTS - 1, 1.0), size=length)
    logs: Floats = np.log(np.concatenate([pause, rows], axis=1)).astype(np.float32)
    return logs


def pauses(length: int, share: float = 0.9) -> Floats:
    rows = np.full((length, OUTPUTS), (1 - share) / (OUTPUTS - 1), dtype=np.float32)
    rows[:, PAUSE] = share
    logs: Floats = np.log(rows)
    return logs


def join(*pieces: Floats) -> Floats:
    return np.concatenate(pieces)


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


# --- edges ---


def test_utterances_of_pauses_and_empty_ones_stand_among_the_others() -> None:
    hmm = model()
    rows = spoken(6, 1)
    utterances = [rows[:0], pauses(3), rows, pauses(1), rows[:0]]
    read = hmm.read(utterances, threads=1)
    assert [item.shape for item in read.posteriors] == [(len(u), OUTPUTS) for u in utterances]
    for silent in (read.posteriors[1], read.posteriors[3]):
        np.testing.assert_array_equal(silent, np.eye(OUTPUTS)[[PAUSE] * len(silent)])
    alone = hmm.read([rows], threads=1)
    np.testing.assert_allclose(read.posteriors[2], alone.posteriors[0], atol=1e-6)
    assert read.gain == pytest.approx(alone.gain, abs=1e-5)
    assert read.voiced == alone.voiced == 6


@pytest.mark.parametrize(
    "utterances",
    [[], [spoken(0, 0)], [pauses(4)], [pauses(1), spoken(0, 0)]],
    ids=["nothing", "empty", "pauses", "pause and empty"],
)
def test_where_nothing_is_said_nothing_is_gained(utterances: list[Floats]) -> None:
    read = model().read(utterances, threads=2)
    assert (read.gain, read.voiced) == (0.0, 0)
    assert [len(item) for item in read.posteriors] == [len(item) for item in utterances]
    assert all((item[:, PAUSE] == 1).all() for item in read.posteriors)


def test_one_frame_is_read_by_the_unigram() -> None:
    hmm = model(3, power=1.0)
    rows = spoken(1, 9)
    weights = hmm.language.transitions.unigram * np.exp(rows[0, STATES]) / hmm.prior[STATES]
    found = hmm.read([rows], threads=1).posteriors[0]
    np.testing.assert_allclose(found[0, STATES], weights / weights.sum(), atol=5e-3)


def test_a_frame_that_is_no_number_spoils_no_other() -> None:
    hmm = model()
    rows = spoken(5, 4)
    broken = join(rows[:3], np.full((1, OUTPUTS), np.nan, np.float32), rows[3:])
    read = hmm.read([broken, rows], threads=1)
    expected = hmm.read([rows], threads=1)
    assert read.gain == pytest.approx(2 * expected.gain, abs=1e-4)
    np.testing.assert_allclose(
        read.posteriors[0][[0, 1, 2, 4, 5]], expected.posteriors[0], atol=1e-6
    )


def test_the_sharpest_frames_give_finite_numbers() -> None:
    sharp = np.full((40, OUTPUTS), -300.0, dtype=np.float32)
    truth = STATES[np.random.default_rng(0).integers(len(STATES), size=40)]
    sharp[np.arange(40), truth] = 0.0
    read = model(power=1.0).read([sharp], threads=1)
    np.testing.assert_array_equal(read.posteriors[0].argmax(axis=1), truth)
    assert np.isfinite(read.posteriors[0]).all()
    assert math.isfinite(read.gain)


def test_what_is_given_is_not_changed() -> None:
    rows = join(spoken(4, 0), pauses(2))
    before = rows.copy()
    model().read([rows], threads=1)
    np.testing.assert_array_equal(rows, before)


# --- company and threads ---


def corpus(count: int = 30) -> list[Floats]:
    lengths = np.random.default_rng(5).integers(0, 30, size=count)
    return [
        join(spoken(int(length), seed), pauses(seed % 4)) for seed, length in enumerate(lengths)
    ]


def test_an_utterance_is_read_alike_in_any_company() -> None:
    hmm = model(4)
    utterances = corpus()
    together = hmm.read(utterances, threads=1)
    alone = [hmm.read([rows], threads=1) for rows in utterances]
    for found, single in zip(together.posteriors, alone, strict=True):
        np.testing.assert_allclose(found, single.posteriors[0], atol=1e-5)
    assert together.gain == pytest.approx(sum(read.gain for read in alone), abs=1e-3)
    assert together.voiced == sum(read.voiced for read in alone)
    backwards = hmm.read(utterances[::-1], threads=1)
    for found, turned in zip(together.posteriors, backwards.posteriors[::-1], strict=True):
        np.testing.assert_allclose(found, turned, atol=1e-5)


def test_threads_do_not_change_a_bit() -> None:
    utterances = corpus(60)
    one, several = (model(5).read(utterances, threads) for threads in (1, 5))
    assert one.gain == several.gain
    for found, other in zip(one.posteriors, several.posteriors, strict=True):
        np.testing.assert_array_equal(found, other)


# --- what the language is good for ---


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


STAY = 0.8


def mishearing(length: int, seed: int = 0) -> tuple[np.ndarray, Floats]:
    """Return the phones of a ring, and what a network says that takes every fifth for another."""
    rng = np.random.default_rng(seed)
    truth = ring_speech(length, STAY, rng)
    heard = np.where(rng.random(length) < 0.2, rng.choice(STATES, size=length), truth)
    return truth, network_output(heard, 0.6)


def reader(log_probs: Floats, stay: float = STAY) -> FrameHmm:
    language = ring()
    return FrameHmm(language, mean_probabilities([log_probs]), 1.0, stay)


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


# --- on disk ---


def test_a_saved_model_reads_as_before(tmp_path: Path) -> None:
    hmm = model(7, power=0.3, stay=0.7)
    path = tmp_path / "frame_hmm.safetensors"
    hmm.save(path)
    loaded = FrameHmm.load(path)
    assert (loaded.power, loaded.stay) == (0.3, 0.7)
    np.testing.assert_array_equal(loaded.language.phones, STATES)
    np.testing.assert_array_equal(loaded.prior, hmm.prior)
    utterances = corpus(8)
    one, other = (item.read(utterances, threads=1) for item in (hmm, loaded))
    assert one.gain == other.gain
    for found, again in zip(one.posteriors, other.posteriors, strict=True):
        np.testing.assert_array_equal(found, again)


def test_a_missing_or_damaged_model_is_a_users_error(tmp_path: Path) -> None:
    path = tmp_path / "frame_hmm.safetensors"
    with pytest.raises(UserError, match=r"frame_hmm\.safetensors"):
        FrameHmm.load(path)
    model().save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:60], whole[:-4], b"no safetensors"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"frame_hmm\.safetensors"):
            FrameHmm.load(path)


@pytest.mark.parametrize(
    "change",
    [{"phones": [1, 3, 4]}, {"power": None}, {"trigram": 0.5}, {"stay": {}}],
    ids=["phones", "power", "trigram", "stay"],
)
def test_a_checkpoint_of_something_else_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "frame_hmm.safetensors"
    model().save(path)
    save_checkpoint(path, {**load_checkpoint(path), **change})
    with pytest.raises(UserError, match=r"holds no model of frames; run the matching again"):
        FrameHmm.load(path)


@pytest.mark.parametrize("name", ["phones", "unigram", "bigram", "trigram", "prior", "power"])
def test_a_model_that_lacks_a_part_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "frame_hmm.safetensors"
    model().save(path)
    state = load_checkpoint(path)
    assert isinstance(state.pop(name), (torch.Tensor, float))
    save_checkpoint(path, state)
    with pytest.raises(UserError, match=r"frame_hmm\.safetensors: holds no model of frames"):
        FrameHmm.load(path)


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
