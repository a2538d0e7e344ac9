"""Frames of all blocks on disk for the time of a probe: written in one pass, read block by block.

A block of an hour of speech, 50 frames of 1,024 numbers a second, takes 0.37 GB; 24 of them would
not fit into memory. The files are removed with their folder, so they need no header and no index.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.corpus.audio import AudioError, Samples, read_audio
from wav2vec_u.corpus.manifest import Recording
from wav2vec_u.corpus.noise import NoiseMeter
from wav2vec_u.corpus.rejections import Rejection
from wav2vec_u.features.batching import length_batches, map_ahead
from wav2vec_u.probe.blocks import BlockEncoder
from wav2vec_u.probe.linear_ctc import Frames
from wav2vec_u.runtime.progress import progress

_SUFFIX = ".float16"


class BlockFrames:
    """Frames of some utterances, block by block.

    Used as a context manager while it is written, and read afterwards.

    Parameters
    ----------
    folder : Path
        Existing folder for a file a block.
    names : sequence of str
        Of the blocks.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._paths = {name: folder / (name + _SUFFIX) for name in names}
        self._shapes: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
        self._files: dict[str, BinaryIO] = {}
        self._stack = ExitStack()

    def __enter__(self) -> BlockFrames:
        self._files = {
            name: self._stack.enter_context(path.open("wb")) for name, path in self._paths.items()
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def append(self, frames: dict[str, Frames]) -> None:
        """Add an utterance: (T, D) of every block."""
        for name, file in self._files.items():
            rows = np.ascontiguousarray(frames[name], dtype=np.float16)
            file.write(rows.tobytes())
            self._shapes[name].append((rows.shape[0], rows.shape[1]))

    def read(self, name: str) -> list[Frames]:
        """Return the frames of all utterances in one block, mapped from the disk."""
        shapes = self._shapes[name]
        if not shapes:
            return []
        flat = np.memmap(self._paths[name], dtype=np.float16, mode="r")
        ends = np.cumsum([rows * dim for rows, dim in shapes])
        return [
            flat[end - rows * dim : end].reshape(rows, dim)
            for (rows, dim), end in zip(shapes, ends.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class Source:
    """An encoder, and which of its blocks are wanted: position and the name they are kept under."""

    encoder: BlockEncoder
    blocks: list[tuple[int, str]]


def encode_recordings(
    recordings: Sequence[Recording],
    sources: Sequence[Source],
    frames: BlockFrames,
    batch_seconds: float,
    max_flatness: float,
) -> tuple[list[Recording], list[Rejection]]:
    """Decode recordings once, and keep their frames in all wanted blocks.

    Parameters
    ----------
    recordings : sequence of Recording
    sources : sequence of Source
    frames : BlockFrames
        Open for writing; gets the utterances in the order in which they are returned.
    batch_seconds : float
        Audio in one batch, padding included.
    max_flatness : float
        `CorpusConfig.max_flatness`.

    Returns
    -------
    kept : list of Recording
    rejected : list of Rejection
        What cannot be decoded, is ``noise``, is shorter than a receptive field (``too_short``), or
        gives frames that are no numbers of half precision (``non_finite``).
    """
    kept: list[Recording] = []
    rejected: list[Rejection] = []
    batches = list(length_batches(recordings, lambda recording: recording.seconds, batch_seconds))
    for batch, loaded in progress(
        map_ahead(partial(_load, max_flatness), batches),
        label="encoding recordings",
        total=len(batches),
    ):
        pairs = list(zip(batch, loaded, strict=True))
        rejected += [
            Rejection(recording.id, item.reason, item.detail)
            for recording, item in pairs
            if isinstance(item, AudioError)
        ]
        heard = [(recording, item) for recording, item in pairs if not isinstance(item, AudioError)]
        encoded: list[dict[str, Frames]] = [{} for _ in heard]
        for source in sources:
            outputs = source.encoder.encode_blocks([samples for _, samples in heard])
            for found, blocks in zip(encoded, outputs, strict=True):
                found.update({name: blocks[position] for position, name in source.blocks})
        for (recording, samples), found in zip(heard, encoded, strict=True):
            refusal = _refusal(found, len(samples))
            if refusal is None:
                frames.append(found)
                kept.append(recording)
            else:
                rejected.append(Rejection(recording.id, *refusal))
    return kept, rejected


def _load(max_flatness: float, batch: Sequence[Recording]) -> list[Samples | AudioError]:
    loaded: list[Samples | AudioError] = []
    for recording in batch:
        try:
            samples = read_audio(recording.audio)
            meter = NoiseMeter(SAMPLE_RATE)
            meter.add(samples)
            meter.check(max_flatness)
            loaded.append(samples)
        except AudioError as error:
            loaded.append(error)
    return loaded


def _refusal(frames: dict[str, Frames], n_samples: int) -> tuple[str, str] | None:
    if any(len(item) == 0 for item in frames.values()):
        return "too_short", f"{n_samples} samples are fewer than the receptive field"
    for name, item in frames.items():
        with np.errstate(over="ignore"):
            finite = bool(np.isfinite(item.astype(np.float16)).all())
        if not finite:
            return "non_finite", f"block {name} gives NaN, or numbers beyond half precision"
    return None
