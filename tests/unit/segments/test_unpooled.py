"""Frames that are projected and not pooled: whose they are, where they stand, what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2vec_u.features.store import FrameStore, FrameStoreWriter
from wav2vec_u.segments.pca import PCA
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStore, SegmentStoreWriter
from wav2vec_u.segments.unpooled import UNKNOWN, UnpooledFrames, Unpooler

DIM = 3
LENGTHS = {"a": 7, "left out": 5, "b": 1, "c": 12}
BOUNDS = {"a": [0, 2, 5, 7], "b": [0, 1], "c": [0, 4, 5, 12]}


def pca(n_components: int = 2) -> PCA:
    rng = np.random.default_rng(3)
    return PCA(n_components).fit(lambda: [rng.standard_normal((50, DIM)).astype(np.float32)])


def stores(folder: Path, rate_hz: float) -> UnpooledFrames:
    """Features of four utterances, of which three have segments, in another order."""
    rng = np.random.default_rng(0)
    (folder / "features").mkdir()
    (folder / "segments").mkdir()
    with FrameStoreWriter(
        folder / "features", dim=DIM, frame_rate_hz=rate_hz, encoder="none"
    ) as writer:
        for name, length in LENGTHS.items():
            frames = rng.standard_normal((length, DIM)).astype(np.float32)
            times = 1.0 + np.arange(length, dtype=np.float32) / rate_hz
            writer.append(name, frames, times, audio="", split="train", speaker=None)
    with SegmentStoreWriter(folder / "segments", 2, rate_hz) as segments:
        for name in ("c", "a", "b"):
            edges = np.array(BOUNDS[name], np.int32)
            bounds = np.stack([edges[:-1], edges[1:]], axis=1)
            count = len(bounds)
            item = Segments(np.zeros((count, 2), np.float32), np.zeros(count, np.int32), bounds)
            segments.append(name, item, np.zeros(edges[-1], np.float32), split="test", speaker="x")
    features = FrameStore(folder / "features")
    return UnpooledFrames(
        SegmentStore(folder / "segments"), features, Unpooler(pca(), features.frame_rate_hz)
    )


@pytest.mark.parametrize(("rate_hz", "stack"), [(25.0, 1), (49.9, 1), (50.0, 1), (100.0, 2)])
def test_there_are_fifty_a_second_or_all_that_there_are(rate_hz: float, stack: int) -> None:
    unpooler = Unpooler(pca(), rate_hz)
    assert (unpooler.stack, unpooler.dim, unpooler.frame_dim) == (stack, 2 * stack, DIM)


def test_vectors_are_projected_frames_side_by_side() -> None:
    frames = np.random.default_rng(1).standard_normal((7, DIM)).astype(np.float32)
    found = Unpooler(pca(), 100.0).transform(frames)
    projected = pca().transform(frames)
    assert found.vectors.shape == (3, 4)
    np.testing.assert_allclose(found.vectors[1], np.concatenate(projected[2:4]), rtol=1e-6)
    assert found.bounds.tolist() == [[0, 2], [2, 4], [4, 6]], "the seventh frame fills no vector"
    assert found.codes.tolist() == [0, 0, 0]
    assert Unpooler(pca(), 100.0).transform(frames[:1]).vectors.shape == (0, 4)


def test_utterances_are_those_that_have_segments(tmp_path: Path) -> None:
    frames = stores(tmp_path, 100.0)
    assert frames.ids == ["c", "a", "b"]
    assert [frames.length(i) for i in range(len(frames))] == [6, 3, 0]
    assert [frames.vectors(i).shape for i in range(3)] == [(6, 4), (3, 4), (0, 4)]
    assert (frames.splits, frames.speakers) == (["test"] * 3, ["x"] * 3)
    own = FrameStore(tmp_path / "features")
    expected = Unpooler(pca(), 100.0).transform(own.frames(own.ids.index("a")))
    np.testing.assert_array_equal(frames.vectors(1), expected.vectors)
    np.testing.assert_allclose(
        frames.times(1), [[1.0, 1.02], [1.02, 1.04], [1.04, 1.06]], atol=1e-6
    )
    assert frames.times(2).shape == (0, 2)


def test_labels_of_segments_become_those_of_frames(tmp_path: Path) -> None:
    frames = stores(tmp_path, 100.0)
    # c: frames 0-3, 4, 5-11; the third vector has a frame of each of the last two.
    assert frames.spread(0, np.array([5, 7, -1], np.int32)).tolist() == [5, 5, UNKNOWN, -1, -1, -1]
    assert frames.spread(0, np.array([5, 7, 7], np.int32)).tolist() == [5, 5, 7, 7, 7, 7]
    assert frames.spread(2, np.array([4], np.int32)).tolist() == []


@given(
    durations=st.lists(st.integers(1, 9), min_size=1, max_size=12), stack=st.sampled_from([1, 2, 4])
)
def test_every_label_that_is_spread_is_that_of_its_frames(
    tmp_path_factory: pytest.TempPathFactory, durations: list[int], stack: int
) -> None:
    folder = tmp_path_factory.mktemp("spread")
    total = sum(durations)
    with FrameStoreWriter(folder, dim=DIM, frame_rate_hz=50.0 * stack, encoder="none") as writer:
        frames = np.zeros((total, DIM), np.float32)
        times = np.arange(total, dtype=np.float32)
        writer.append("u", frames, times, audio="", split="train", speaker=None)
    edges = np.cumsum([0, *durations]).astype(np.int32)
    (folder / "segments").mkdir()
    with SegmentStoreWriter(folder / "segments", 1, 50.0) as segments:
        count = len(durations)
        bounds = np.stack([edges[:-1], edges[1:]], axis=1)
        item = Segments(np.zeros((count, 1), np.float32), np.zeros(count, np.int32), bounds)
        segments.append("u", item, times, split="train", speaker=None)
    features = FrameStore(folder)
    store = UnpooledFrames(
        SegmentStore(folder / "segments"), features, Unpooler(pca(), features.frame_rate_hz)
    )
    labels = np.arange(len(durations), dtype=np.int32) % 3
    by_frame = np.repeat(labels, durations)
    spread = store.spread(0, labels)
    assert len(spread) == total // stack == store.length(0)
    for place, label in enumerate(spread):
        own = set(by_frame[place * stack : (place + 1) * stack].tolist())
        assert own == {label} if label != UNKNOWN else len(own) > 1
