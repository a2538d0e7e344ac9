from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_frames import piecewise

from wav2vec_u.segments.boundaries import (
    bounds_in_seconds,
    find_penalty,
    penalised_path,
    run_bounds,
)


def cost(distances, path, penalty):
    along = distances[np.arange(len(path)), path].sum(dtype=np.float64)
    return along + penalty * np.count_nonzero(np.diff(path))


def distances_to(frames, centres):
    return ((frames[:, None] - centres[None]) ** 2).sum(-1).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_frames=st.integers(1, 6),
    n_clusters=st.integers(1, 4),
    penalty=st.floats(0, 3),
)
def test_path_costs_what_the_best_of_all_paths_costs(seed, n_frames, n_clusters, penalty):
    distances = np.random.default_rng(seed).random((n_frames, n_clusters)).astype(np.float32)
    every_path = itertools.product(range(n_clusters), repeat=n_frames)
    best = min(cost(distances, np.array(path), penalty) for path in every_path)
    path = penalised_path(distances, penalty)
    assert path.dtype == np.int32
    assert cost(distances, path, penalty) == pytest.approx(best, abs=1e-6)


def test_without_a_penalty_every_frame_takes_its_nearest_cluster():
    distances = np.random.default_rng(0).random((200, 7)).astype(np.float32)
    np.testing.assert_array_equal(penalised_path(distances, 0.0), distances.argmin(1))


def test_a_huge_penalty_leaves_one_segment():
    distances = np.random.default_rng(0).random((200, 7)).astype(np.float32)
    path = penalised_path(distances, 1e9)
    assert set(path.tolist()) == {int(distances.sum(0).argmin())}


def test_planted_segments_are_recovered_under_noise_that_breaks_the_nearest_cluster():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(10, 8))
    frames, bounds, labels = piecewise(rng, centres, 60, noise=0.7, shortest=5)
    distances = distances_to(frames, centres)
    assert len(run_bounds(distances.argmin(1))) > 1.15 * len(bounds)
    found = penalised_path(distances, 5.0)
    assert len(run_bounds(found)) == len(bounds)
    np.testing.assert_allclose(run_bounds(found), bounds, atol=1)  # a frame of noise may go over
    np.testing.assert_array_equal(found[run_bounds(found)[:, 0]], labels)


@given(codes=st.lists(st.integers(0, 2), max_size=12))
def test_runs_are_those_of_groupby(codes):
    expected, start = [], 0
    for _, group in itertools.groupby(codes):
        end = start + len(list(group))
        expected.append([start, end])
        start = end
    found = run_bounds(np.array(codes, dtype=np.int32))
    assert found.tolist() == expected
    assert found.shape == (len(expected), 2)
    assert found.dtype == np.int32


def test_no_frames_give_no_path_and_no_runs():
    path = penalised_path(np.empty((0, 3), np.float32), 1.0)
    assert path.shape == (0,)
    assert run_bounds(path).shape == (0, 2)


def test_a_negative_penalty_is_refused():
    with pytest.raises(ValueError, match="negative"):
        penalised_path(np.zeros((2, 2), np.float32), -1.0)


def sample(n_utterances=25, n_frames=300):
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(12, 6))
    frames = [
        piecewise(rng, centres, n_frames // 6, noise=0.7)[0][:n_frames] for _ in range(n_utterances)
    ]
    return [distances_to(utterance, centres) for utterance in frames]


def rate_at(distances, penalty, pairs=False):
    counts = [len(run_bounds(penalised_path(item, penalty))) for item in distances]
    segments = sum(-(-count // 2) for count in counts) if pairs else sum(counts)
    return 100.0 * segments / sum(map(len, distances))


@pytest.mark.parametrize("target", [6.0, 12.0, 16.0])
@pytest.mark.parametrize("pairs", [False, True])
def test_rate_is_hit_within_one_per_cent(target, pairs):
    distances = sample()
    penalty = find_penalty(distances, frame_rate_hz=100.0, target_rate_hz=target, pairs=pairs)
    assert penalty > 0
    assert rate_at(distances, penalty, pairs) == pytest.approx(target, rel=0.01)


def test_rate_never_rises_with_the_penalty():
    distances = sample(n_utterances=5)
    rates = [rate_at(distances, penalty) for penalty in np.linspace(0, 20, 30)]
    assert rates == sorted(rates, reverse=True)


def test_targets_out_of_reach():
    distances = sample(n_utterances=4)
    assert find_penalty(distances, frame_rate_hz=100.0, target_rate_hz=99.0) == 0.0
    penalty = find_penalty(distances, frame_rate_hz=100.0, target_rate_hz=1e-3)
    assert [len(run_bounds(penalised_path(item, penalty))) for item in distances] == [1] * 4


def test_identical_frames_have_no_rate_to_find():
    distances = [np.zeros((50, 3), np.float32)]
    assert find_penalty(distances, frame_rate_hz=100.0, target_rate_hz=14.0) == 0.0


def test_a_segment_before_cut_silence_ends_with_its_last_frame():
    bounds = np.array([[0, 2], [2, 4]], dtype=np.int32)
    times = np.array([1.0, 1.01, 7.0, 7.01], dtype=np.float32)
    found = bounds_in_seconds(bounds, times, frame_rate_hz=100.0)
    np.testing.assert_allclose(found, [[1.0, 1.02], [7.0, 7.02]], atol=1e-6)
    assert found.dtype == np.float32
