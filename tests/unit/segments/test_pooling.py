from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wav2vec_u.segments.pooling import (
    bounds_of_pairs,
    codes_of_pairs,
    mean_of_pairs,
    mean_over_bounds,
)

lengths_of_segments = st.lists(st.integers(1, 6), min_size=1, max_size=9)


def bounds_from(lengths):
    ends = np.cumsum(lengths)
    return np.stack([ends - lengths, ends], axis=1).astype(np.int32)


@given(lengths=lengths_of_segments, seed=st.integers(0, 1_000))
def test_means_are_those_of_a_plain_loop(lengths, seed):
    bounds = bounds_from(lengths)
    frames = np.random.default_rng(seed).normal(size=(sum(lengths), 3)).astype(np.float32)
    expected = np.stack([frames[start:end].mean(axis=0) for start, end in bounds])
    found = mean_over_bounds(frames, bounds)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32


@given(lengths=lengths_of_segments)
def test_pairs_are_those_of_the_reference(lengths):
    bounds = bounds_from(lengths)
    vectors = np.random.default_rng(0).normal(size=(len(lengths), 2)).astype(np.float32)
    codes = np.arange(len(lengths), dtype=np.int32)

    # The reference repeats the last segment where there is an odd number, then averages twos.
    padded = np.concatenate([vectors, vectors[-1:]]) if len(vectors) % 2 else vectors
    expected = padded.reshape(-1, 2, 2).mean(axis=1)

    np.testing.assert_allclose(mean_of_pairs(vectors), expected, rtol=1e-5, atol=1e-6)
    joined = bounds_of_pairs(bounds)
    assert joined.tolist() == [
        [int(bounds[i, 0]), int(bounds[min(i + 1, len(bounds) - 1), 1])]
        for i in range(0, len(bounds), 2)
    ]
    expected_codes = [
        max(pair, key=lambda i: (lengths[i], -i))
        for pair in (range(i, min(i + 2, len(lengths))) for i in range(0, len(lengths), 2))
    ]
    assert codes_of_pairs(codes, bounds).tolist() == expected_codes


def test_pooling_changes_nothing_it_was_given():
    bounds = bounds_from([2, 1, 3])
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    codes = np.array([4, 5, 6], dtype=np.int32)
    before = bounds.copy(), vectors.copy(), codes.copy()
    mean_of_pairs(vectors)
    bounds_of_pairs(bounds)
    codes_of_pairs(codes, bounds)
    for kept, given_ in zip(before, (bounds, vectors, codes), strict=True):
        np.testing.assert_array_equal(kept, given_)


def test_no_segments():
    no_bounds = np.empty((0, 2), np.int32)
    assert mean_over_bounds(np.empty((0, 3), np.float32), no_bounds).shape == (0, 3)
    assert mean_of_pairs(np.empty((0, 3), np.float32)).shape == (0, 3)
    assert bounds_of_pairs(no_bounds).shape == (0, 2)
    assert codes_of_pairs(np.empty(0, np.int32), no_bounds).shape == (0,)
