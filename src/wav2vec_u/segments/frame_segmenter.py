"""No segmentation: every frame is a segment of its own, as in wav2vec-U 2.0.

Liu et al. (2022), *Towards End-to-end Unsupervised Speech Recognition*: the features are
neither clustered nor projected nor pooled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from wav2vec_u.config import SegmentsConfig
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.blocks import FloatArray, FrameSource, train_blocks
from wav2vec_u.segments.fitted import require_fitted
from wav2vec_u.segments.segmenter import Segments


class FrameSegmenter:
    """Frames as segments.

    Parameters
    ----------
    config : SegmentsConfig
        Nothing of it is used; it is kept for the record.

    Attributes
    ----------
    frame_dim_ : int
        Numbers of a frame.
    """

    frame_dim_: int

    def __init__(self, config: SegmentsConfig) -> None:
        self.config = config

    def fit(self, store: FrameSource) -> FrameSegmenter:
        """Learn how many numbers a frame has.

        Raises
        ------
        UserError
            If there is nothing to learn from.
        """
        frames = next(iter(train_blocks(store)()), None)
        if frames is None:
            raise UserError("segments: no utterance of split `train` has usable frames")
        self.frame_dim_ = frames.shape[1]
        return self

    def transform(self, frames: FloatArray) -> Segments:
        """Cut one utterance into its frames, (T, D); all codes are 0.

        Raises
        ------
        ValueError
            If D is not the dimension that was learned from.
        """
        require_fitted(self, "frame_dim_")
        if frames.ndim != 2 or frames.shape[1] != self.frame_dim_:
            raise ValueError(f"frames have shape {frames.shape}; expected (T, {self.frame_dim_})")
        starts = np.arange(len(frames), dtype=np.int32)
        return Segments(
            np.asarray(frames, dtype=np.float32),
            np.zeros(len(frames), dtype=np.int32),
            np.stack([starts, starts + 1], axis=1),
        )

    @property
    def dim(self) -> int:
        """Dimension of the segments' vectors, which is that of a frame."""
        require_fitted(self, "frame_dim_")
        return self.frame_dim_

    @property
    def frame_dim(self) -> int:
        """Numbers of a frame that `transform` takes."""
        return self.dim

    @property
    def figures(self) -> dict[str, float]:
        """What is worth knowing of the learning: nothing was learned."""
        return {}

    def save(self, path: Path) -> None:
        """Write settings and the dimension to one safetensors file."""
        save_checkpoint(
            path, {"config": self.config.model_dump(mode="json"), "frame_dim": self.dim}
        )

    @classmethod
    def load(cls, path: Path) -> FrameSegmenter:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file is missing, damaged, or no segmenter of frames.
        """
        state = load_checkpoint(path)
        try:
            segmenter = cls(SegmentsConfig.model_validate(state["config"]))
            segmenter.frame_dim_ = int(state["frame_dim"])
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise UserError(f"{path}: holds no segmenter; run the segments stage again") from error
        return segmenter
