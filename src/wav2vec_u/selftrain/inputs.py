"""What a frame model reads: the segments of the matching, or the frames they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.features.store import FrameStore
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.load import load_segmenter
from wav2vec_u.segments.segmenter import Segmenter
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.segments.unpooled import UnpooledFrames, Unpooler

Reads = Literal["segments", "frames"]


class Inputs(Protocol):
    """Rows of numbers of utterances: `SegmentStore` or `UnpooledFrames`."""

    ids: list[str]
    splits: list[str]
    dim: int

    def __len__(self) -> int: ...
    def length(self, i: int, /) -> int: ...
    def vectors(self, i: int, /) -> NDArray[np.float32]: ...
    def times(self, i: int, /) -> NDArray[np.float32]: ...


def open_inputs(reads: Reads, segments: Path, features: Path) -> Inputs:
    """Open what a model reads (`FrameModel.reads`).

    Parameters
    ----------
    reads : {"segments", "frames"}
    segments, features : Path
        Finished artefacts.

    Raises
    ------
    UserError
        If one of them is missing or damaged.
    """
    if reads == "segments":
        return SegmentStore(segments)
    frames = unpooled_frames(segments, features)
    if frames is None:
        raise UserError(f"{segments}: has no frames apart from its segments; run again")
    return frames


def unpooled_frames(segments: Path, features: Path) -> UnpooledFrames | None:
    """Open the frames of a finished segments stage; None where they are the segments.

    Raises
    ------
    UserError
        If one of the artefacts is missing or damaged, or they do not belong together.
    """
    segmenter = load_segmenter(segments)
    if not isinstance(segmenter, Segmenter):
        return None
    store = FrameStore(features)
    unpooler = Unpooler(segmenter.pca_, store.frame_rate_hz)
    if unpooler.frame_dim != store.dim:
        raise UserError(f"{segments}: is of other features; run the segments stage again")
    try:
        return UnpooledFrames(SegmentStore(segments), store, unpooler)
    except KeyError as error:
        raise UserError(
            f"{segments}: holds {error}, which {features} does not; run the segments stage again"
        ) from error
