from __future__ import annotations

import numpy as np
import pytest

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.pca import PCA, Moments


def correlated(rng, n=3_000, dim=6):
    return (rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) + 5).astype(np.float32)


def test_a_planted_direction_is_found():
    rng = np.random.default_rng(0)
    direction = np.array([0.6, 0.0, -0.8])
    frames = np.outer(rng.normal(size=500), direction) + 1e-3 * rng.normal(size=(500, 3))
    pca = PCA(1).fit(lambda: [frames.astype(np.float32)])
    np.testing.assert_allclose(pca.components_[0], -direction, atol=1e-3)  # greatest entry > 0
    assert pca.explained_variance_ratio_[0] > 0.999


def test_dimension_is_capped_and_nothing_is_lost_then():
    frames = correlated(np.random.default_rng(1))
    pca = PCA(512).fit(lambda: [frames])
    projected = pca.transform(frames)
    assert projected.shape == (3_000, 6)
    assert projected.dtype == np.float32
    np.testing.assert_allclose(projected @ pca.components_ + pca.mean_, frames, atol=1e-4)
    assert pca.explained_variance_ratio_.sum() == pytest.approx(1)


def test_components_are_orthonormal_and_outputs_uncorrelated():
    frames = correlated(np.random.default_rng(2))
    pca = PCA(4).fit(lambda: [frames])
    np.testing.assert_allclose(pca.components_ @ pca.components_.T, np.eye(4), atol=1e-10)
    covariance = np.cov(pca.transform(frames), rowvar=False)
    np.testing.assert_allclose(
        covariance, np.diag(pca.explained_variance_), atol=1e-4 * covariance.max()
    )


def test_result_does_not_depend_on_the_cut_of_the_stream():
    frames = correlated(np.random.default_rng(3), n=10_000)
    one = PCA(3).fit(lambda: [frames])
    other = PCA(3).fit(lambda: np.array_split(frames, 333))
    np.testing.assert_array_equal(one.components_, other.components_)
    np.testing.assert_array_equal(one.mean_, other.mean_)


def test_moments_merge_exactly():
    frames = correlated(np.random.default_rng(4), n=900)
    merged = Moments.of(frames[:1]).merge(Moments.of(frames[1:500])).merge(Moments.of(frames[500:]))
    whole = Moments.of(frames)
    assert merged.count == whole.count
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-9, atol=1e-9)


def test_frames_that_do_not_vary():
    pca = PCA(2).fit(lambda: [np.ones((10, 3), np.float32)])
    assert pca.explained_variance_ratio_.tolist() == [0, 0]
    np.testing.assert_array_equal(pca.transform(np.ones((2, 3), np.float32)), np.zeros((2, 2)))


@pytest.mark.parametrize("blocks", [[], [np.ones((1, 3), np.float32)]])
def test_too_few_frames(blocks):
    with pytest.raises(UserError, match="two frames"):
        PCA(2).fit(lambda: blocks)
