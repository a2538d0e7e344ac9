"""The segmenter that the settings ask for, and the one that a run has learned."""

from __future__ import annotations

from pathlib import Path

from wav2vec_u.config import SegmentsConfig
from wav2vec_u.runtime.checkpoint import load_checkpoint
from wav2vec_u.segments.frame_segmenter import FrameSegmenter
from wav2vec_u.segments.segmenter import Segmenter

SEGMENTER_NAME = "segmenter.safetensors"


def make_segmenter(config: SegmentsConfig) -> Segmenter | FrameSegmenter:
    """Return a segmenter that has learned nothing yet."""
    return FrameSegmenter(config) if config.boundaries == "frames" else Segmenter(config)


def load_segmenter(folder: Path) -> Segmenter | FrameSegmenter:
    """Read the segmenter of a finished segments stage.

    Raises
    ------
    UserError
        If its file is missing, damaged, or holds no segmenter.
    """
    path = folder / SEGMENTER_NAME
    kind = FrameSegmenter if "frame_dim" in load_checkpoint(path) else Segmenter
    return kind.load(path)
