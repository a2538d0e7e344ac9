"""What a teacher says of its segments is shared out among the outputs of the network."""

from __future__ import annotations

import numpy as np
import pytest
from frame_models import even_model, identity_generator
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.adapt.model import Reader
from wav2vec_u.adapt.teacher import likelihoods_at, share_out
from wav2vec_u.matching.frame_hmm import FrameHmm

PHONES = 4


def distance(middle: float, start: float, end: float) -> float:
    """Of a point of time from a segment; 0 inside."""
    return max(start - middle, middle - end, 0.0)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 100_000), segments=st.integers(1, 8), outputs=st.integers(1, 12))
def test_an_output_gets_its_share_of_the_nearest_segment(
    seed: int, segments: int, outputs: int
) -> None:
    rng = np.random.default_rng(seed)
    bounds = np.cumsum(rng.uniform(0.05, 0.3, 2 * segments)).astype(np.float32)
    times = bounds.reshape(segments, 2)  # with gaps between them
    if rng.random() < 0.5:
        times[:-1, 1] = times[1:, 0]  # without
    said = rng.normal(size=(segments, PHONES)).astype(np.float32)
    middles = np.sort(rng.uniform(0.0, bounds[-1] + 0.2, outputs)).astype(np.float32)
    found = share_out(said, times, middles)
    nearest = [
        min(range(segments), key=lambda i: distance(middle, *times[i].tolist()))
        for middle in middles.tolist()
    ]
    for row, place in zip(found, nearest, strict=True):
        np.testing.assert_allclose(row, said[place] / nearest.count(place), rtol=1e-6)


def test_segments_that_are_outputs_stay_what_they_are() -> None:
    rng = np.random.default_rng(0)
    starts = (0.37 + np.arange(500) / 50).astype(np.float32)
    said = rng.normal(size=(500, PHONES)).astype(np.float32)
    times = np.stack([starts, starts + np.float32(0.02)], axis=1)
    np.testing.assert_array_equal(share_out(said, times, starts + np.float32(0.01)), said)


def test_a_model_speaks_where_its_segments_are() -> None:
    model = even_model(identity_generator(PHONES))
    vectors = np.eye(PHONES, dtype=np.float32)[[2, 1]]
    times = np.array([[1.0, 1.2], [1.2, 1.3]], np.float32)
    said = likelihoods_at(model, vectors, times, np.array([1.05, 1.15, 1.25], np.float32))
    assert said.argmax(axis=1).tolist() == [2, 2, 1]
    nothing = likelihoods_at(model, vectors[:0], times[:0], np.array([1.05, 1.15], np.float32))
    np.testing.assert_array_equal(nothing, np.zeros((2, PHONES)))


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_network_and_teacher_are_heard_together(weight: float) -> None:
    even = even_model(identity_generator(PHONES)).hmm
    hmm = FrameHmm(even.language, even.prior, power=0.25, stay=even.stay)
    rng = np.random.default_rng(1)
    said = np.log(rng.dirichlet(np.ones(PHONES), size=7)).astype(np.float32)
    taught = rng.normal(size=said.shape).astype(np.float32)
    rows = np.concatenate([said, taught], axis=1)
    reader = Reader(hmm, weight)
    np.testing.assert_allclose(
        reader.likelihoods(rows), hmm.likelihoods(said) + weight * taught, rtol=1e-5
    )
    (read,) = reader.read([rows])
    (wanted,) = hmm.read([said], 1, [weight * taught]).posteriors
    np.testing.assert_allclose(read, wanted, rtol=1e-5)
    views = reader.views(rows)
    assert (views is None) == (weight == 0.0)  # what nobody listens to is no second view
    if views is not None:
        np.testing.assert_allclose(views[0], 2 * hmm.likelihoods(said), rtol=1e-5)
        np.testing.assert_allclose(views[1], 2 * weight * taught, rtol=1e-5)
