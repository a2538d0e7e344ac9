"""What confidence is worth, against counting all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wav2vec_u.evaluate.confidence import right_words, separation


def test_separation_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    confidences = rng.integers(0, 8, size=60) / 8  # with ties, which count half
    right = rng.random(60) < confidences
    pairs = [
        1.0 if good > bad else 0.5 if good == bad else 0.0
        for good in confidences[right]
        for bad in confidences[~right]
    ]
    assert separation(confidences.tolist(), right.tolist()) == pytest.approx(np.mean(pairs))
    assert np.mean(pairs) > 0.6


@pytest.mark.parametrize(
    ("confidences", "expected"), [([0.9, 0.8, 0.1], 1.0), ([0.1, 0.2, 0.9], 0.0), ([0.5] * 3, 0.5)]
)
def test_the_extremes(confidences: list[float], expected: float) -> None:
    assert separation(confidences, [True, True, False]) == expected


def test_without_two_kinds_of_words_there_is_no_separation() -> None:
    assert math.isnan(separation([0.1, 0.9], [True, True]))
    assert math.isnan(separation([], []))


def test_words_are_right_where_the_alignment_puts_them_opposite_their_like() -> None:
    assert right_words(list("abcd"), list("bcxd")) == [True, True, False, True]
    assert right_words([], ["a"]) == [False]
    assert right_words(["a"], []) == []
