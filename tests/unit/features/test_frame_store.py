"""The frame store: what goes in comes out, also after a kill."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.features import store as store_module
from wav2vec_u.features.store import FrameStore, FrameStoreWriter
from wav2vec_u.runtime.errors import UserError

DIM = 5
FILES = ("frames.npy", "times.npy", "index.jsonl", "rejected.jsonl", "meta.json")


class Killed(BaseException):
    """Stands for a signal: nothing after it runs."""


def writer_at(folder: Path, resume: bool = False) -> FrameStoreWriter:
    return FrameStoreWriter(folder, dim=DIM, frame_rate_hz=50.0, encoder="planted", resume=resume)


def planted(i: int, length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(i)
    length = 1 + i % 7 if length is None else length
    frames = rng.standard_normal((length, DIM)).astype(np.float16).astype(np.float32)
    return frames, (i + np.arange(length) / 50).astype(np.float32)


def append(writer: FrameStoreWriter, i: int) -> None:
    frames, times = planted(i)
    speaker = None if i % 3 == 0 else f"speaker {i % 3}"
    writer.append(f"ü{i}", frames, times, audio=f"/a/{i}.wav", split="train", speaker=speaker)


def fill(writer: FrameStoreWriter, items: range) -> None:
    for i in items:
        if writer.holds(f"ü{i}"):
            continue
        if i % 5 == 4:
            writer.reject(f"ü{i}", "too_short", "no frame")
        else:
            append(writer, i)
        if i % 4 == 3:
            writer.commit()


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    with writer_at(tmp_path) as writer:
        fill(writer, range(12))
    store = FrameStore(tmp_path)
    kept = [i for i in range(12) if i % 5 != 4]
    assert store.ids == [f"ü{i}" for i in kept]
    assert len(store) == len(kept)
    assert store.speakers[:2] == [None, "speaker 1"]
    assert store.audio[1] == "/a/1.wav"
    assert (store.dim, store.frame_rate_hz, store.encoder) == (DIM, 50.0, "planted")
    for row, i in enumerate(kept):
        frames, times = planted(i)
        assert store.frames(row).dtype == np.float32
        np.testing.assert_array_equal(store.frames(row), frames)
        np.testing.assert_array_equal(store.times(row), times)
    rejected = [json.loads(line) for line in (tmp_path / "rejected.jsonl").open()]
    assert rejected == [
        {"what": f"ü{i}", "reason": "too_short", "detail": "no frame"} for i in (4, 9)
    ]


def test_the_files_are_plain_npy_that_numpy_can_map(tmp_path: Path) -> None:
    with writer_at(tmp_path) as writer:
        for i in range(9):
            append(writer, i)
    frames = np.load(tmp_path / "frames.npy", mmap_mode="r", allow_pickle=False)
    times = np.load(tmp_path / "times.npy", mmap_mode="r", allow_pickle=False)
    assert (frames.dtype, times.dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(frames, np.concatenate([planted(i)[0] for i in range(9)]))
    np.testing.assert_array_equal(times, np.concatenate([planted(i)[1] for i in range(9)]))


@pytest.mark.parametrize("max_frames", [1, 3, 10_000])
def test_blocks_stream_over_all_frames(tmp_path: Path, max_frames: int) -> None:
    with writer_at(tmp_path) as writer:
        for i in range(9):
            append(writer, i)
    blocks = list(FrameStore(tmp_path).iter_blocks(max_frames))
    assert max(len(block) for block in blocks) <= max_frames
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(
        np.concatenate(blocks), np.concatenate([planted(i)[0] for i in range(9)])
    )


@contextmanager
def killed(writer: FrameStoreWriter) -> Iterator[None]:
    """Leave the files as a kill would: buffers reach the disk or not, nothing else happens."""
    with pytest.raises(Killed), writer:
        yield
        raise Killed


@settings(max_examples=25, deadline=None)
@given(stop=st.integers(0, 20), torn=st.integers(0, 400), half_line=st.booleans())
def test_resumed_after_a_kill_equals_uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, stop: int, torn: int, half_line: bool
) -> None:
    whole, partial = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("partial")
    with writer_at(whole) as writer:
        fill(writer, range(20))
    with killed(first := writer_at(partial)):
        fill(first, range(stop))
    for name in ("frames.npy", "times.npy"):
        with (partial / name).open("ab") as file:
            file.write(b"\xff" * torn)  # rows that no index line speaks of
    if half_line:
        for name in ("index.jsonl", "rejected.jsonl"):
            with (partial / name).open("ab") as file:
                file.write('{"id": "ü'.encode()[:-1])
    with writer_at(partial, resume=True) as second:
        committed = 4 * (stop // 4)
        assert second.holds("ü0") == (committed > 0)
        assert not second.holds(f"ü{committed}")
        fill(second, range(20))
    assert contents(partial) == contents(whole)


def test_a_kill_after_the_last_row_and_before_the_header_is_mended(tmp_path: Path) -> None:
    with killed(writer := writer_at(tmp_path)):
        append(writer, 3)
        writer.commit()
    with writer_at(tmp_path, resume=True):
        pass
    np.testing.assert_array_equal(FrameStore(tmp_path).frames(0), planted(3)[0])


def test_without_resume_an_old_partial_store_is_discarded(tmp_path: Path) -> None:
    with killed(writer := writer_at(tmp_path)):
        append(writer, 3)
        writer.commit()
    with writer_at(tmp_path) as writer:
        assert not writer.holds("ü3")
        append(writer, 1)
    assert FrameStore(tmp_path).ids == ["ü1"]


def test_lost_rows_are_not_replaced_by_zeros(tmp_path: Path) -> None:
    with killed(writer := writer_at(tmp_path)):
        append(writer, 3)
        writer.commit()
    with (tmp_path / "frames.npy").open("r+b") as file:
        file.truncate(130)
    with pytest.raises(UserError, match=r"frames\.npy: lacks frames"):
        writer_at(tmp_path, resume=True)


def test_a_full_disk_passes_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught, writer_at(tmp_path) as writer:
        append(writer, 0)
        writer.commit()
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "index.jsonl").read_bytes() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_a_disk_that_fills_up_under_the_rows_passes_up(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    with (
        Path("/dev/full").open("wb") as full,
        pytest.raises(OSError, match="No space left"),
        writer,
    ):
        writer._frames = full
        append(writer, 0)
        writer.commit()


def test_frames_of_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dim 5"), writer_at(tmp_path) as writer:
        writer.append(
            "a", np.zeros((2, 4)), np.zeros(2), audio="a.wav", split="train", speaker=None
        )
    with pytest.raises(ValueError, match="3 times"), writer_at(tmp_path) as writer:
        writer.append(
            "a", np.zeros((2, 5)), np.zeros(3), audio="a.wav", split="train", speaker=None
        )


@pytest.mark.parametrize("name", ["frames.npy", "times.npy", "index.jsonl", "meta.json"])
@pytest.mark.parametrize("damage", ["missing", "garbled", "cut"])
def test_a_damaged_store_is_one_line(tmp_path: Path, name: str, damage: str) -> None:
    with writer_at(tmp_path) as writer:
        append(writer, 1)
        append(writer, 2)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    elif damage == "garbled":
        path.write_bytes(b"\x93garbled\n")
    else:
        path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="remove it and run again") as caught:
        FrameStore(tmp_path)
    assert "\n" not in str(caught.value)
