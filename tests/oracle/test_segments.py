"""k-means and PCA beside scikit-learn, and the penalised path beside a plain textbook version."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec_u.segments.boundaries import penalised_path
from wav2vec_u.segments.kmeans import KMeans
from wav2vec_u.segments.pca import PCA

sklearn_cluster = pytest.importorskip("sklearn.cluster")
sklearn_decomposition = pytest.importorskip("sklearn.decomposition")


def speech_like(rng, n_frames=12_000, dim=13):
    """Draw overlapping clusters of unequal size and width, as phones are."""
    centres = rng.normal(size=(30, dim)) * 2
    widths = rng.uniform(0.3, 1.2, size=30)
    labels = rng.choice(30, size=n_frames, p=rng.dirichlet(np.ones(30)))
    frames = centres[labels] + widths[labels, None] * rng.normal(size=(n_frames, dim))
    return frames.astype(np.float32)


@pytest.mark.parametrize("sample_frames", [3_000, 100_000])
def test_inertia_is_that_of_scikit_learn(sample_frames):
    frames = speech_like(np.random.default_rng(0))
    ours = KMeans(40, seed=0, sample_frames=sample_frames).fit(lambda: np.array_split(frames, 9))
    theirs = sklearn_cluster.KMeans(40, n_init=3, max_iter=50, random_state=0).fit(frames)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=0.03)


def test_separated_clusters_get_the_centroids_of_scikit_learn():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(10, 6)) * 4
    labels = rng.integers(10, size=5_000)
    frames = (centres[labels] + 0.2 * rng.normal(size=(5_000, 6))).astype(np.float32)
    ours = KMeans(10, seed=0).fit(lambda: [frames])
    theirs = sklearn_cluster.KMeans(10, n_init=5, random_state=0).fit(frames)
    order = np.lexsort(ours.centroids_.T), np.lexsort(theirs.cluster_centers_.T)
    np.testing.assert_allclose(
        ours.centroids_[order[0]], theirs.cluster_centers_[order[1]], atol=1e-3
    )


def test_principal_components_are_those_of_scikit_learn():
    rng = np.random.default_rng(2)
    frames = (rng.normal(size=(9_000, 12)) @ rng.normal(size=(12, 12)) - 3).astype(np.float32)
    ours = PCA(7).fit(lambda: np.array_split(frames, 40))
    theirs = sklearn_decomposition.PCA(7, svd_solver="full").fit(frames.astype(np.float64))
    signs = np.sign((ours.components_ * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(ours.components_, theirs.components_ * signs[:, None], atol=1e-6)
    np.testing.assert_allclose(ours.mean_, theirs.mean_, atol=1e-6)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(
        ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-6
    )
    np.testing.assert_allclose(
        ours.transform(frames[:50]), theirs.transform(frames[:50]) * signs, atol=1e-4
    )


def textbook_viterbi(distances, penalty):
    """Minimise over every pair of neighbours, in O(T·K²)."""
    n_frames, n_clusters = distances.shape
    step = penalty * (1 - np.eye(n_clusters))  # from, to
    cost = distances[0].astype(np.float64)
    origins = []
    for t in range(1, n_frames):
        totals = cost[:, None] + step
        origins.append(totals.argmin(axis=0))
        cost = totals.min(axis=0) + distances[t]
    path = [int(cost.argmin())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return np.array(path[::-1]), cost.min()


@pytest.mark.parametrize("penalty", [0.0, 0.1, 0.7, 4.0])
def test_path_is_the_textbook_one(penalty):
    rng = np.random.default_rng(3)
    distances = np.repeat(rng.random((60, 20)), 6, axis=0) + rng.random((360, 20))
    distances = distances.astype(np.float32)
    expected, _ = textbook_viterbi(distances, penalty)
    np.testing.assert_array_equal(penalised_path(distances, penalty), expected)
