from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from planted_frames import MemoryFrames, piecewise

from wav2vec_u.config import SegmentsConfig
from wav2vec_u.runtime.checkpoint import save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.segmenter import Segmenter


def planted(seed=0, n_utterances=20, noise=0.05):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(8, 5)) * 2
    made = [piecewise(rng, centres, 30, noise=noise) for _ in range(n_utterances)]
    return MemoryFrames([frames for frames, _, _ in made]), made


def config(**values):
    return SegmentsConfig(**{"boundaries": "viterbi", "clusters": 8, "pca_dim": 5, **values})


@pytest.mark.parametrize("boundaries", ["clusters", "viterbi"])
def test_planted_segments_come_back(boundaries):
    source, made = planted()
    segmenter = Segmenter(config(boundaries=boundaries)).fit(source)
    code_of = {}
    for frames, bounds, labels in made:
        segments = segmenter.transform(frames)
        np.testing.assert_array_equal(segments.bounds, bounds)
        for code, label in zip(segments.codes.tolist(), labels.tolist(), strict=True):
            assert code_of.setdefault(code, label) == label
        means = np.stack([frames[start:end].mean(0) for start, end in bounds])
        np.testing.assert_allclose(
            segments.vectors @ segmenter.pca_.components_ + segmenter.pca_.mean_, means, atol=1e-4
        )
    assert len(code_of) == 8


@pytest.mark.parametrize("pool_pairs", [False, True])
def test_target_rate_is_the_rate_that_comes_out(pool_pairs):
    source, made = planted(noise=1.2, n_utterances=40)
    settings = config(clusters=16, target_rate_hz=11.0, pool_pairs=pool_pairs)
    segmenter = Segmenter(settings).fit(source)
    n_segments = sum(len(segmenter.transform(frames)) for frames, _, _ in made)
    n_frames = sum(len(frames) for frames, _, _ in made)
    assert 100 * n_segments / n_frames == pytest.approx(11.0, rel=0.01)


def test_shapes_and_types():
    source, made = planted()
    frames = made[0][0]
    single = Segmenter(config(pca_dim=3)).fit(source)
    segments = single.transform(frames)
    assert segments.vectors.shape == (len(segments), 3) == (len(segments), single.dim)
    assert segments.codes.shape == (len(segments),)
    assert segments.bounds.shape == (len(segments), 2)
    kinds = [array.dtype for array in (segments.vectors, segments.codes, segments.bounds)]
    assert kinds == [np.float32, np.int32, np.int32]

    pooled = Segmenter(config(pca_dim=3, pool_pairs=True, boundaries="clusters")).fit(source)
    n_pooled = len(pooled.transform(frames))
    assert n_pooled == -(-len(made[0][1]) // 2)


def test_test_utterances_teach_nothing():
    source, _ = planted(n_utterances=6)
    alone = Segmenter(config()).fit(source)
    strange = 100 * np.ones((50, 5))
    mixed = MemoryFrames(
        [strange, *[source.frames(i) for i in range(6)]], splits=["test"] + ["train"] * 6
    )
    beside = Segmenter(config()).fit(mixed)
    np.testing.assert_array_equal(alone.kmeans_.centroids_, beside.kmeans_.centroids_)
    np.testing.assert_array_equal(alone.pca_.components_, beside.pca_.components_)
    assert alone.penalty_ == beside.penalty_


def test_an_empty_utterance_gives_no_segments():
    source, _ = planted(n_utterances=4)
    for pool_pairs in (False, True):
        segmenter = Segmenter(config(pool_pairs=pool_pairs)).fit(source)
        segments = segmenter.transform(np.empty((0, 5), np.float32))
        assert len(segments) == 0
        assert segments.vectors.shape == (0, 5)
        assert segments.bounds.shape == (0, 2)


def test_a_single_frame_is_a_segment():
    source, made = planted(n_utterances=4)
    segments = Segmenter(config()).fit(source).transform(made[0][0][:1])
    assert segments.bounds.tolist() == [[0, 1]]


def test_frames_of_another_dimension_are_refused():
    source, _ = planted(n_utterances=4)
    segmenter = Segmenter(config()).fit(source)
    with pytest.raises(ValueError, match=r"\(T, 5\)"):
        segmenter.transform(np.zeros((4, 6), np.float32))


@pytest.mark.parametrize("pool_pairs", [False, True])
def test_save_and_load(tmp_path, pool_pairs):
    source, made = planted(n_utterances=6)
    segmenter = Segmenter(config(pool_pairs=pool_pairs, pca_dim=4)).fit(source)
    path = tmp_path / "segmenter.safetensors"
    segmenter.save(path)
    loaded = Segmenter.load(path)
    assert loaded.config == segmenter.config
    assert loaded.penalty_ == segmenter.penalty_
    assert loaded.kmeans_.inertia_ == segmenter.kmeans_.inertia_
    assert loaded.dim == 4
    for frames, _, _ in made:
        one, other = segmenter.transform(frames), loaded.transform(frames)
        np.testing.assert_array_equal(one.vectors, other.vectors)
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.bounds, other.bounds)


def test_what_is_no_segmenter_is_refused(tmp_path):
    path = tmp_path / "segmenter.safetensors"
    for state in (
        {"weights": torch.ones(2)},
        {"config": {"clusters": -1}, "penalty": 0.0, "kmeans": {}, "pca": {}},
        {"config": {}, "penalty": 0.0, "kmeans": {"centroids": 3}, "pca": {}},
        {"config": {}, "penalty": None},
    ):
        save_checkpoint(path, state)
        with pytest.raises(UserError, match=r"segmenter\.safetensors.*run the segments stage"):
            Segmenter.load(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(UserError, match=r"segmenter\.safetensors"):
        Segmenter.load(path)
    with pytest.raises(UserError, match=r"missing"):
        Segmenter.load(tmp_path / "missing.safetensors")


class GeneratedFrames:
    """A corpus of any size that exists one utterance at a time."""

    frame_rate_hz = 100.0
    dim = 20

    def __init__(self, n_utterances):
        self.splits = ["train"] * n_utterances

    def __len__(self):
        return len(self.splits)

    def frames(self, i):
        return np.random.default_rng(i).normal(size=(1_000, self.dim)).astype(np.float32)


def test_memory_does_not_grow_with_the_corpus():
    settings = config(
        clusters=4, kmeans_iterations=1, kmeans_restarts=1, kmeans_sample_frames=4_000
    )

    def peak(n_utterances):
        Segmenter(settings).fit(GeneratedFrames(2))  # what is compiled and cached once
        tracemalloc.start()
        try:
            Segmenter(settings).fit(GeneratedFrames(n_utterances))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(20), peak(160)
    assert large < 1.3 * small, (small, large)
