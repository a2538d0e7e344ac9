"""Arg-max decoding against a plain loop, and on planted utterances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.decode.greedy import PhoneSpan, greedy

PHONES = ["<SIL>", "a", "b", "c"]


def one_hot(labels: list[int]) -> np.ndarray:
    return 9.0 * np.eye(len(PHONES))[labels].reshape(len(labels), len(PHONES))


def unit_times(n: int) -> np.ndarray:
    return np.stack([np.arange(n), np.arange(n) + 1], axis=1).astype(np.float32)


def slow_greedy(labels: list[int]) -> list[tuple[str, float, float]]:
    spans: list[tuple[str, float, float]] = []
    previous = None
    for position, label in enumerate(labels):
        if label == previous and label != 0:
            spans[-1] = (spans[-1][0], spans[-1][1], position + 1.0)
        elif label != 0:
            spans.append((PHONES[label], float(position), position + 1.0))
        previous = label
    return spans


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40))
def test_equals_a_plain_loop(labels: list[int]) -> None:
    decoded = greedy(one_hot(labels), unit_times(len(labels)), PHONES)
    assert [(s.phone, s.start_s, s.end_s) for s in decoded.spans] == slow_greedy(labels)


def test_silence_keeps_equal_phones_apart() -> None:
    decoded = greedy(one_hot([1, 1, 0, 1]), unit_times(4), PHONES)
    assert decoded.spans == (PhoneSpan("a", 0.0, 2.0), PhoneSpan("a", 3.0, 4.0))


def test_times_are_those_of_the_segments() -> None:
    times = np.array([[0.1, 0.2], [0.2, 0.5], [2.0, 2.5]], np.float32)
    decoded = greedy(one_hot([1, 1, 2]), times, PHONES)
    assert [(s.start_s, s.end_s) for s in decoded.spans] == [
        (pytest.approx(0.1), pytest.approx(0.5)),
        (pytest.approx(2.0), pytest.approx(2.5)),
    ]


def test_masked_positions_and_surplus_outputs_are_passed_over() -> None:
    logits = one_hot([1, 2, 3, 3, 2])  # the last: an even kernel's surplus
    mask = np.array([True, False, True, True, True])
    decoded = greedy(logits, unit_times(4), PHONES, mask)
    assert [s.phone for s in decoded.spans] == ["a", "c"]


def test_log_prob_is_the_sum_over_segments() -> None:
    logits = np.array([[0.0, 2.0, 0.0, 0.0], [5.0, 0.0, 1.0, 0.0]])
    expected = sum(row.max() - np.log(np.exp(row).sum()) for row in logits)
    assert greedy(logits, unit_times(2), PHONES).log_prob == pytest.approx(expected)


def test_large_logits_do_not_overflow() -> None:
    decoded = greedy(1e4 * one_hot([1, 2]).astype(np.float32), unit_times(2), PHONES)
    assert decoded.log_prob == pytest.approx(0.0)


def test_nothing_gives_nothing() -> None:
    decoded = greedy(np.zeros((0, 4)), np.zeros((0, 2)), PHONES)
    assert decoded.spans == ()
    assert decoded.log_prob == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    logits = one_hot([1, 2])
    logits[0, 0] = bad
    with pytest.raises(ValueError, match="finite"):
        greedy(logits, unit_times(2), PHONES)


def test_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match="4 phones"):
        greedy(np.zeros((2, 5)), unit_times(2), PHONES)
