"""Frames on disk: one flat array for a whole corpus, written as it comes, read by utterance.

``frames.npy`` and ``times.npy`` are ordinary NumPy files whose headers are written again, with the
final length, when all rows are in. Rows count only once a line of ``index.jsonl`` (or of
``rejected.jsonl``) speaks of them: after a kill the files are cut back to the last such line.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO

import numpy as np

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_json

FRAMES_NAME = "frames.npy"
TIMES_NAME = "times.npy"
INDEX_NAME = "index.jsonl"
REJECTED_NAME = "rejected.jsonl"
META_NAME = "meta.json"
BLOCK_FRAMES = 65_536


class FrameStoreWriter:
    """Append utterances to a frame store; survive a kill.

    Used as a context manager: a body that ends without an error completes the store, an error
    leaves the committed part behind for a later writer with ``resume=True``.

    Parameters
    ----------
    folder : Path
        Existing folder that the files go to.
    dim : int
        Numbers in a frame.
    frame_rate_hz : float
        Frames a second.
    encoder : str
        Name recorded in ``meta.json``.
    resume : bool
        Go on after what an earlier writer committed in this folder.

    Attributes
    ----------
    n_frames, n_utterances : int
        What the store holds so far, uncommitted rows included.
    """

    def __init__(
        self, folder: Path, *, dim: int, frame_rate_hz: float, encoder: str, resume: bool = False
    ) -> None:
        self._folder = folder
        self._dim = dim
        self._meta = {"dim": dim, "frame_rate_hz": frame_rate_hz, "encoder": encoder}
        self._pending: dict[str, list[str]] = {INDEX_NAME: [], REJECTED_NAME: []}
        self._done: set[str] = set()
        self.n_frames = 0
        self.n_utterances = 0
        if resume:
            self._recover()
        else:
            for name in (FRAMES_NAME, TIMES_NAME, INDEX_NAME, REJECTED_NAME):
                (folder / name).write_bytes(b"")
        self._frames = _open_rows(folder / FRAMES_NAME, np.float16, (dim,), self.n_frames)
        self._times = _open_rows(folder / TIMES_NAME, np.float32, (), self.n_frames)

    def holds(self, utterance_id: str) -> bool:
        """Tell whether an utterance was committed, stored or rejected, before this writer."""
        return utterance_id in self._done

    def append(
        self,
        utterance_id: str,
        frames: np.ndarray,
        times: np.ndarray,
        *,
        audio: str,
        split: str,
        speaker: str | None,
    ) -> None:
        """Add one utterance: frames (T, D), kept as float16, and their start times (T,) in seconds.

        Raises
        ------
        ValueError
            If the shapes do not fit the store or each other.
        OSError
            If the disk is full.
        """
        if frames.shape != (len(times), self._dim):
            raise ValueError(f"frames {frames.shape}, {len(times)} times, dim {self._dim}")
        self._frames.write(np.ascontiguousarray(frames, dtype=np.float16).tobytes())
        self._times.write(np.ascontiguousarray(times, dtype=np.float32).tobytes())
        line = {
            "id": utterance_id,
            "split": split,
            "speaker": speaker,
            "audio": audio,
            "offset": self.n_frames,
            "length": len(times),
        }
        self._pending[INDEX_NAME].append(json.dumps(line, ensure_ascii=False))
        self.n_frames += len(times)
        self.n_utterances += 1

    def reject(self, utterance_id: str, reason: str, detail: str) -> None:
        """Record an utterance that yields no frames."""
        line = {"what": utterance_id, "reason": reason, "detail": detail}
        self._pending[REJECTED_NAME].append(json.dumps(line, ensure_ascii=False))

    def commit(self) -> None:
        """Bring all rows to the disk, then the lines that make them count."""
        for rows in (self._frames, self._times):
            rows.flush()
            os.fsync(rows.fileno())
        for name, lines in self._pending.items():
            if lines:
                with (self._folder / name).open("a", encoding="utf-8") as file:
                    file.write("\n".join(lines) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                lines.clear()

    def close(self) -> None:
        """Commit, write the final headers and ``meta.json``."""
        self.commit()
        for rows, dtype, row in (
            (self._frames, np.float16, (self._dim,)),
            (self._times, np.float32, ()),
        ):
            rows.seek(0)
            _write_header(rows, dtype, (self.n_frames, *row))
            rows.flush()
            os.fsync(rows.fileno())
            rows.close()
        write_json(self._folder / META_NAME, self._meta)

    def __enter__(self) -> FrameStoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            _close_quietly(self._frames)
            _close_quietly(self._times)

    def _recover(self) -> None:
        for name in (FRAMES_NAME, TIMES_NAME, INDEX_NAME, REJECTED_NAME):
            (self._folder / name).touch()
        for line in _whole_lines(self._folder / INDEX_NAME):
            self._done.add(line["id"])
            self.n_frames = line["offset"] + line["length"]
            self.n_utterances += 1
        for line in _whole_lines(self._folder / REJECTED_NAME):
            self._done.add(line["what"])


class FrameStore:
    """Read frames by utterance.

    Rows are read from the file on demand and not memory-mapped: mapped pages count as this
    process's memory, and a pass over a large corpus would look as if it were held.

    Parameters
    ----------
    folder : Path
        A finished `features` artefact.

    Attributes
    ----------
    ids, splits, audio : list of str
        One entry an utterance.
    speakers : list of (str or None)
    lengths : ndarray of shape (len,), int64
        Frames of each utterance.
    dim : int
    frame_rate_hz : float
    encoder : str
        Name of what made the frames.
    n_frames : int
        Over all utterances.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._frames_path = folder / FRAMES_NAME
        self._times_path = folder / TIMES_NAME
        self.ids: list[str] = []
        self.splits: list[str] = []
        self.speakers: list[str | None] = []
        self.audio: list[str] = []
        offsets: list[int] = []
        lengths: list[int] = []
        try:
            meta = json.loads((folder / META_NAME).read_text(encoding="utf-8"))
            self.dim = int(meta["dim"])
            self.frame_rate_hz = float(meta["frame_rate_hz"])
            self.encoder = str(meta["encoder"])
            for line in read_jsonl(folder / INDEX_NAME):
                self.ids.append(line["id"])
                # Interned: a corpus has few speakers and recordings beside its utterances.
                self.splits.append(sys.intern(line["split"]))
                speaker = line["speaker"]
                self.speakers.append(None if speaker is None else sys.intern(speaker))
                self.audio.append(sys.intern(line["audio"]))
                offsets.append(line["offset"])
                lengths.append(line["length"])
            frames_shape, self._frames_start = _read_header(self._frames_path, np.float16)
            times_shape, self._times_start = _read_header(self._times_path, np.float32)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder}: damaged frame store; remove it and run again") from error
        self._offsets = np.array(offsets, dtype=np.int64)
        self.lengths = np.array(lengths, dtype=np.int64)
        self.n_frames = int(self.lengths.sum())
        if frames_shape != (self.n_frames, self.dim) or times_shape != (self.n_frames,):
            raise UserError(f"{folder}: index and frames disagree; remove it and run again")

    def __len__(self) -> int:
        return len(self.ids)

    def frames(self, i: int) -> np.ndarray:
        """Return the frames of utterance `i`: (T, D) float32."""
        return self._rows(int(self._offsets[i]), int(self.lengths[i]))

    def times(self, i: int) -> np.ndarray:
        """Return the start of each frame in the original recording: (T,) float32, seconds."""
        return np.fromfile(
            self._times_path,
            dtype=np.float32,
            count=int(self.lengths[i]),
            offset=self._times_start + int(self._offsets[i]) * np.float32().nbytes,
        )

    def iter_blocks(self, max_frames: int = BLOCK_FRAMES) -> Iterator[np.ndarray]:
        """Stream over all frames in blocks of at most `max_frames` rows, (t, D) float32 each.

        Blocks cross the bounds of utterances.
        """
        for start in range(0, self.n_frames, max_frames):
            yield self._rows(start, min(max_frames, self.n_frames - start))

    def _rows(self, start: int, count: int) -> np.ndarray:
        row_bytes = self.dim * np.float16().nbytes
        flat = np.fromfile(
            self._frames_path,
            dtype=np.float16,
            count=count * self.dim,
            offset=self._frames_start + start * row_bytes,
        )
        return flat.reshape(count, self.dim).astype(np.float32)


def _open_rows(path: Path, dtype: type[np.generic], row: tuple[int, ...], rows: int) -> BinaryIO:
    """Open an array file for appending after its first `rows` rows; cut off what lies beyond."""
    size = path.stat().st_size
    file = path.open("r+b")
    _write_header(file, dtype, (rows, *row))
    end = file.tell() + rows * math.prod(row) * np.dtype(dtype).itemsize
    if rows and size < end:  # truncating would fill the gap with zeros that pass for frames
        file.close()
        raise UserError(f"{path}: lacks frames that its index names; remove {path.parent}")
    file.truncate(end)
    file.seek(end)
    return file


def _write_header(file: IO[bytes], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    # NumPy leaves room for 21 digits of the first axis, so that the header of the final length is
    # as long as that of the empty array and can be written over it. Plain ints: NumPy 2 would
    # write `np.int64(...)` into the header, which it cannot read back.
    header: dict[str, Any] = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": tuple(int(size) for size in shape),
    }
    np.lib.format.write_array_header_1_0(file, header)


def _read_header(path: Path, dtype: type[np.generic]) -> tuple[tuple[int, ...], int]:
    """Return the shape of an array file and the position of its first row.

    Raises
    ------
    ValueError
        If the file is no array of this type, or not as long as its header says.
    """
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, fortran_order, found = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if fortran_order or found != dtype:
        raise ValueError(f"{path.name} holds {found}")
    if path.stat().st_size != start + math.prod(shape) * found.itemsize:
        raise ValueError(f"{path.name} is cut short")
    return shape, start


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of a file that was being appended to; drop a last one left half-written."""
    end = 0
    with path.open("r+b") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                break
            end += len(raw)
            yield json.loads(raw)
        file.truncate(end)


def _close_quietly(file: BinaryIO) -> None:
    # After an error the rows in the buffer are not committed anyway, and a second failure to write
    # them must not hide the first.
    try:
        file.close()
    except OSError:
        return
