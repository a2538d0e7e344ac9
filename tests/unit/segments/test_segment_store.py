from __future__ import annotations

import numpy as np
import pytest

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStore, SegmentStoreWriter


def random_segments(rng, n_segments, dim=3):
    ends = np.cumsum(rng.integers(1, 5, size=n_segments))
    starts = np.concatenate([[0], ends[:-1]])[:n_segments]
    return Segments(
        rng.normal(size=(n_segments, dim)).astype(np.float32),
        rng.integers(0, 9, size=n_segments).astype(np.int32),
        np.stack([starts, ends], axis=1).astype(np.int32),
    )


def write(folder, lengths=(4, 0, 7, 1)):
    rng = np.random.default_rng(0)
    made = [random_segments(rng, length) for length in lengths]
    with SegmentStoreWriter(folder, dim=3, frame_rate_hz=100.0) as writer:
        for i, segments in enumerate(made):
            n_frames = int(segments.bounds[-1, 1]) if len(segments) else 0
            times = 2.0 + np.arange(n_frames, dtype=np.float32) / 100
            writer.append(
                f"kurz/ä {i}",
                segments,
                times,
                split="test" if i == 2 else "train",
                speaker=None if i == 0 else "anna",
            )
    return made


def test_what_was_written_is_read(tmp_path):
    made = write(tmp_path)
    store = SegmentStore(tmp_path)
    assert len(store) == 4
    assert store.dim == 3
    assert store.ids == [f"kurz/ä {i}" for i in range(4)]
    assert store.splits == ["train", "train", "test", "train"]
    assert store.speakers == [None, "anna", "anna", "anna"]
    for i in (2, 0, 3, 1):
        np.testing.assert_array_equal(store.vectors(i), made[i].vectors)
        np.testing.assert_array_equal(store.codes(i), made[i].codes)
        np.testing.assert_array_equal(store.bounds(i), made[i].bounds)
        np.testing.assert_allclose(store.times(i), 2 + made[i].bounds / 100, atol=1e-5)
    kinds = [read(0).dtype for read in (store.vectors, store.codes, store.bounds, store.times)]
    assert kinds == [np.float32, np.int32, np.int32, np.float32]


def test_files_are_plain_numpy_arrays(tmp_path):
    made = write(tmp_path)
    vectors = np.load(tmp_path / "vectors.npy", allow_pickle=False)
    np.testing.assert_array_equal(vectors, np.concatenate([item.vectors for item in made]))
    assert np.load(tmp_path / "codes.npy").shape == (12,)
    assert np.load(tmp_path / "bounds.npy").shape == (12, 2)
    assert np.load(tmp_path / "times.npy").shape == (12, 2)


def test_reading_does_not_give_access_to_the_file(tmp_path):
    write(tmp_path)
    store = SegmentStore(tmp_path)
    before = store.vectors(0).copy()
    store.vectors(0)[:] = 0
    np.testing.assert_array_equal(store.vectors(0), before)


def test_a_store_without_segments_can_be_read(tmp_path):
    write(tmp_path, lengths=(0,))
    store = SegmentStore(tmp_path)
    assert len(store) == 1
    assert store.vectors(0).shape == (0, 3)


def test_an_error_leaves_a_store_that_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    segments = random_segments(rng, 3)
    times = np.arange(20, dtype=np.float32)
    with (
        pytest.raises(ZeroDivisionError),
        SegmentStoreWriter(tmp_path, dim=3, frame_rate_hz=100.0) as writer,
    ):
        writer.append("a", segments, times, split="train", speaker=None)
        raise ZeroDivisionError
    with pytest.raises(UserError, match="segments"):
        SegmentStore(tmp_path)


def test_vectors_of_another_dimension_are_refused(tmp_path):
    segments = random_segments(np.random.default_rng(0), 3, dim=4)
    with (
        pytest.raises(ValueError, match=r"\(4,\)"),
        SegmentStoreWriter(tmp_path, dim=3, frame_rate_hz=100.0) as writer,
    ):
        writer.append("a", segments, np.arange(20, dtype=np.float32), split="train", speaker=None)


@pytest.mark.parametrize(
    "name", ["vectors.npy", "codes.npy", "bounds.npy", "times.npy", "index.jsonl"]
)
@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
def test_damaged_files_are_named(tmp_path, name, damage):
    write(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-5])
    else:
        path.write_bytes(b"\x00garbage" * 40)
    with pytest.raises(UserError, match="run the segments stage again") as caught:
        SegmentStore(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
