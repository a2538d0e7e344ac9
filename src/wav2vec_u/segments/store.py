"""Segments on disk: flat arrays and an index, written and read without holding the corpus."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.segments.blocks import FloatArray
from wav2vec_u.segments.boundaries import bounds_in_seconds
from wav2vec_u.segments.segmenter import Segments

VECTORS, CODES, BOUNDS, TIMES = "vectors.npy", "codes.npy", "bounds.npy", "times.npy"
INDEX = "index.jsonl"


class NpyAppender:
    """Write a ``.npy`` file row by row, its length unknown until the end.

    Parameters
    ----------
    path : Path
    dtype : dtype-like
    row_shape : tuple of int
        Shape of one row.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, row_shape: tuple[int, ...]) -> None:
        self._dtype = np.dtype(dtype)
        self._row_shape = tuple(int(size) for size in row_shape)
        self._rows = 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows, shape (n, *row_shape)."""
        if rows.shape[1:] != self._row_shape:
            raise ValueError(f"rows have shape {rows.shape[1:]}, expected {self._row_shape}")
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())
        self._rows += len(rows)

    def close(self) -> None:
        """Put the final length into the header and bring everything to the disk."""
        self._file.seek(0)
        self._write_header()  # NumPy leaves room for the first axis to grow
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is, with a header that speaks of no rows."""
        self._file.close()

    def _write_header(self) -> None:
        npy_format.write_array_header_1_0(
            self._file,
            {
                "descr": npy_format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self._rows, *self._row_shape),
            },
        )


class NpyRows:
    """Read rows of a ``.npy`` file by their number.

    Rows are read and not memory-mapped: mapped pages count as this process's memory, and a pass
    over a large corpus would look as if it were held.

    Attributes
    ----------
    shape : tuple of int
        Of the whole array.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            npy_format.read_magic(file)
            self.shape, _, self._dtype = npy_format.read_array_header_1_0(file)
            self._start = file.tell()
        self._row_size = math.prod(self.shape[1:])
        expected = self._start + math.prod(self.shape) * self._dtype.itemsize
        if path.stat().st_size != expected:
            raise ValueError(f"{path.name} is cut off or has a wrong header")

    def read(self, offset: int, length: int) -> npt.NDArray[Any]:
        """Return `length` rows from row `offset` on."""
        flat = np.fromfile(
            self._path,
            dtype=self._dtype,
            count=length * self._row_size,
            offset=self._start + offset * self._row_size * self._dtype.itemsize,
        )
        return flat.reshape(length, *self.shape[1:])


class SegmentStoreWriter:
    """Append the segments of one utterance after another; use it in a ``with`` block.

    The arrays get their lengths when the block ends without an error.

    Parameters
    ----------
    folder : Path
        Existing folder.
    dim : int
        Dimension of the segment vectors.
    frame_rate_hz : float
        Frames a second.
    """

    def __init__(self, folder: Path, dim: int, frame_rate_hz: float) -> None:
        self._folder = folder
        self._frame_rate_hz = frame_rate_hz
        self._vectors = NpyAppender(folder / VECTORS, np.float32, (dim,))
        self._codes = NpyAppender(folder / CODES, np.int32, ())
        self._bounds = NpyAppender(folder / BOUNDS, np.int32, (2,))
        self._times = NpyAppender(folder / TIMES, np.float32, (2,))
        self._index = (folder / INDEX).open("w", encoding="utf-8")
        self._offset = 0

    def append(
        self,
        utterance_id: str,
        segments: Segments,
        frame_times: npt.NDArray[np.float32],
        *,
        split: str,
        speaker: str | None,
    ) -> None:
        """Add one utterance.

        Parameters
        ----------
        utterance_id : str
        segments : Segments
        frame_times : ndarray, shape (T,)
            Start of each frame in the original recording, seconds.
        split : str
        speaker : str or None
        """
        self._vectors.append(segments.vectors)
        self._codes.append(segments.codes)
        self._bounds.append(segments.bounds)
        self._times.append(bounds_in_seconds(segments.bounds, frame_times, self._frame_rate_hz))
        line = {
            "id": utterance_id,
            "split": split,
            "speaker": speaker,
            "offset": self._offset,
            "length": len(segments),
        }
        self._index.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._offset += len(segments)

    def __enter__(self) -> SegmentStoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for array in (self._vectors, self._codes, self._bounds, self._times):
            if error is None:
                array.close()
            else:
                array.abandon()
        if error is None:
            self._index.flush()
            os.fsync(self._index.fileno())
        self._index.close()


class SegmentStore:
    """Read the segments of a finished segments stage.

    Parameters
    ----------
    folder : Path
        The stage's artefact. Its arrays stay on disk.

    Attributes
    ----------
    ids, splits, speakers : list
        Of each utterance.
    dim : int
        Dimension P of the segment vectors.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            index = list(read_jsonl(folder / INDEX))
            self._vectors = NpyRows(folder / VECTORS)
            self._codes = NpyRows(folder / CODES)
            self._bounds = NpyRows(folder / BOUNDS)
            self._times = NpyRows(folder / TIMES)
            self.ids: list[str] = [row["id"] for row in index]
            self.splits: list[str] = [row["split"] for row in index]
            self.speakers: list[str | None] = [row["speaker"] for row in index]
            self._offsets: list[int] = [row["offset"] for row in index]
            self._lengths: list[int] = [row["length"] for row in index]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder}: holds no readable segments; run the segments stage again ({error})"
            ) from error
        n_segments = sum(self._lengths)
        arrays = (self._vectors, self._codes, self._bounds, self._times)
        if any(array.shape[0] != n_segments for array in arrays):
            raise UserError(
                f"{folder}: its index and its arrays disagree; run the segments stage again"
            )
        self.dim = int(self._vectors.shape[1])

    def __len__(self) -> int:
        return len(self.ids)

    def length(self, i: int) -> int:
        """Return the number S of segments of utterance `i`."""
        return self._lengths[i]

    def vectors(self, i: int) -> FloatArray:
        """Return the vectors of utterance `i`, shape (S, P), float32."""
        return self._vectors.read(self._offsets[i], self._lengths[i])

    def codes(self, i: int) -> npt.NDArray[np.int32]:
        """Return the k-means cluster of each segment, shape (S,), int32."""
        return self._codes.read(self._offsets[i], self._lengths[i])

    def bounds(self, i: int) -> npt.NDArray[np.int32]:
        """Return first frame and the one after the last, shape (S, 2), int32."""
        return self._bounds.read(self._offsets[i], self._lengths[i])

    def times(self, i: int) -> npt.NDArray[np.float32]:
        """Return start and end in the original recording, seconds, shape (S, 2), float32."""
        return self._times.read(self._offsets[i], self._lengths[i])
