"""Divergence against the textbook formula over dictionaries, and on planted texts."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from wav2vec_u.doctor.ngram_distance import jensen_shannon, ngram_codes, split_half_distances

texts = st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=6)


def slow_counts(sentences: list[list[int]], order: int) -> Counter[tuple[int, ...]]:
    return Counter(
        tuple(sentence[i : i + order])
        for sentence in sentences
        for i in range(len(sentence) - order + 1)
    )


@settings(deadline=None)
@given(texts, texts, st.integers(1, 4))
def test_equals_scipy_over_plain_counts(
    left: list[list[int]], right: list[list[int]], order: int
) -> None:
    found = jensen_shannon(ngram_codes(left, order, 6), ngram_codes(right, order, 6))
    p, q = slow_counts(left, order), slow_counts(right, order)
    if not p or not q:
        assert math.isnan(found)
        return
    keys = sorted(p.keys() | q.keys())
    expected = jensenshannon([p[k] for k in keys], [q[k] for k in keys], base=2) ** 2
    assert found == pytest.approx(expected, abs=1e-9)


def test_bounds() -> None:
    same = np.array([1, 2, 3, 3])
    assert jensen_shannon(same, np.tile(same, 5)) == pytest.approx(0.0)
    assert jensen_shannon(same, same + 10) == pytest.approx(1.0)


def test_more_text_lowers_the_noise_floor_and_longer_ngrams_raise_it() -> None:
    rng = np.random.default_rng(0)
    text = [rng.integers(1, 30, size=40) for _ in range(2000)]
    few = split_half_distances(text[:50], 30, np.random.default_rng(1))
    many = split_half_distances(text, 30, np.random.default_rng(1))
    assert all(b < a for a, b in zip(few, many, strict=True))
    assert few == sorted(few)


def test_halves_of_a_text_in_which_every_sentence_is_the_same_do_not_differ() -> None:
    text = [np.arange(1, 12)] * 10
    assert split_half_distances(text, 12, np.random.default_rng(0)) == pytest.approx([0.0] * 4)
