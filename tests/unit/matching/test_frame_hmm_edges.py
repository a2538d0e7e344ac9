"""The model of frames where little, nothing or nonsense is said, and in any company."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_frame_hmm import OUTPUTS, PAUSE, STATES, corpus, join, model, pauses, spoken

from wav2vec_u.matching.ngram_hmm import Floats

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
