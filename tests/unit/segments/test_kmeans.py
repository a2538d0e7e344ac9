from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.kmeans import (
    KMeans,
    kmeans_plus_plus,
    lloyd,
    lloyd_statistics,
    squared_distances,
)


def blobs(rng, n_clusters=12, dim=5, per_cluster=400, spread=0.05):
    centres = rng.normal(size=(n_clusters, dim)) * 3
    labels = rng.permutation(np.repeat(np.arange(n_clusters), per_cluster))
    frames = centres[labels] + spread * rng.normal(size=(len(labels), dim))
    return centres, labels, frames.astype(np.float32)


def same_partition(one, other):
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    return len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


def test_planted_blobs_are_recovered_exactly():
    centres, labels, frames = blobs(np.random.default_rng(0))
    kmeans = KMeans(12, seed=1).fit(lambda: [frames])
    assert same_partition(kmeans.predict(frames), labels)
    nearest = np.abs(kmeans.centroids_[:, None] - centres[None]).max(-1).min(0)
    assert nearest.max() < 0.02
    assert kmeans.n_frames_ == len(frames)


def test_streaming_over_more_than_the_sample_recovers_blobs_and_counts_every_frame():
    _, labels, frames = blobs(np.random.default_rng(1))
    kmeans = KMeans(12, seed=1, sample_frames=600).fit(lambda: np.array_split(frames, 13))
    assert same_partition(kmeans.predict(frames), labels)
    assert kmeans.n_frames_ == len(frames)
    exact = ((frames - kmeans.centroids_[kmeans.predict(frames)]) ** 2).sum(dtype=np.float64)
    assert kmeans.inertia_ == pytest.approx(exact, rel=1e-4)
    # The centroids are means over all frames, not over the sample.
    means = [frames[labels == label].mean(0) for label in range(12)]
    gaps = np.abs(kmeans.centroids_[:, None] - np.stack(means)[None]).max(-1).min(0)
    assert gaps.max() < 1e-5


@pytest.mark.parametrize("sample_frames", [500, 100_000])
def test_result_does_not_depend_on_the_cut_of_the_stream(sample_frames):
    rng = np.random.default_rng(2)
    frames = rng.normal(size=(9_000, 4)).astype(np.float32)
    one = KMeans(8, n_iterations=5, sample_frames=sample_frames).fit(lambda: [frames])
    for parts in (2, 250):
        other = KMeans(8, n_iterations=5, sample_frames=sample_frames).fit(
            lambda parts=parts: np.array_split(frames, parts)
        )
        np.testing.assert_array_equal(one.centroids_, other.centroids_)
        assert one.inertia_ == other.inertia_


def test_statistics_merge_to_those_of_all_frames():
    rng = np.random.default_rng(3)
    frames = torch.from_numpy(rng.normal(size=(700, 3)).astype(np.float32))
    centroids = frames[:6].clone()
    whole = lloyd_statistics(frames, centroids)
    parts = [lloyd_statistics(part, centroids) for part in frames.split([2, 400, 298])]
    merged = parts[0].merge(parts[1].merge(parts[2]))
    torch.testing.assert_close(merged.sums, whole.sums, rtol=1e-12, atol=1e-9)
    assert torch.equal(merged.counts, whole.counts)
    assert merged.inertia == pytest.approx(whole.inertia, rel=1e-6)
    assert merged.farthest_distance == pytest.approx(whole.farthest_distance)
    assert torch.equal(merged.farthest, whole.farthest)


def test_distances_far_from_the_origin_stay_exact():
    rng = np.random.default_rng(4)
    frames = (rng.normal(size=(50, 6)) + 1e3).astype(np.float32)
    exact = ((frames[:, None].astype(np.float64) - frames[None, :7]) ** 2).sum(-1)
    found = squared_distances(torch.from_numpy(frames), torch.from_numpy(frames[:7]))
    np.testing.assert_allclose(found.numpy(), exact, atol=1e-2)


def test_empty_clusters_move_to_far_frames():
    centres, labels, frames = blobs(np.random.default_rng(5), n_clusters=4, dim=3)
    # All frames are nearest to the first centroid; the other three would stay empty for ever.
    start = torch.from_numpy(np.stack([centres.mean(0), *[centres.mean(0) + 1e3] * 3])).float()
    result = lloyd(lambda: [frames], start, n_iterations=30)
    codes = squared_distances(torch.from_numpy(frames), result.centroids).argmin(1).numpy()
    assert same_partition(codes, labels)


def test_every_iteration_lowers_the_inertia():
    rng = np.random.default_rng(6)
    frames = rng.normal(size=(2_000, 4)).astype(np.float32)
    start = torch.from_numpy(frames[:16].copy())
    inertias = [lloyd(lambda: [frames], start, n).inertia for n in range(8)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(inertias))
    assert inertias[-1] < 0.9 * inertias[0]


def test_fewer_distinct_frames_than_clusters_ends_quietly():
    frames = np.repeat(np.eye(3, dtype=np.float32), 40, axis=0)
    kmeans = KMeans(10, seed=0).fit(lambda: [frames])
    assert np.isfinite(kmeans.centroids_).all()
    assert kmeans.inertia_ == pytest.approx(0, abs=1e-3)


def test_too_few_frames_name_the_setting():
    with pytest.raises(UserError, match=r"segments\.clusters: 8 .* 5 frames"):
        KMeans(8).fit(lambda: [np.zeros((5, 2), np.float32)])
    with pytest.raises(UserError, match="0 frames"):
        KMeans(8).fit(list)


def test_more_restarts_are_never_worse_on_the_sample():
    frames = np.random.default_rng(7).normal(size=(1_500, 3)).astype(np.float32)
    inertias = [
        KMeans(20, n_restarts=restarts, seed=0).fit(lambda: [frames]).inertia_
        for restarts in (1, 2, 5)
    ]
    assert inertias == sorted(inertias, reverse=True)
    assert inertias[-1] < inertias[0]


def test_seeding_covers_distant_blobs():
    _, labels, frames = blobs(np.random.default_rng(8), n_clusters=20, spread=1e-3)
    seeds = kmeans_plus_plus(torch.from_numpy(frames), 20, np.random.default_rng(0))
    rows = squared_distances(torch.from_numpy(frames), seeds).argmin(0).numpy()
    assert len(np.unique(labels[rows])) == 20
