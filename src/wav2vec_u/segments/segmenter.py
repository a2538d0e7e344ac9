"""Frames in, segments out: the learned part of the stage as one object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError

from wav2vec_u.config import SegmentsConfig
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.segments.blocks import (
    FloatArray,
    FrameSource,
    is_usable,
    train_blocks,
    train_utterances,
)
from wav2vec_u.segments.boundaries import find_penalty, penalised_path, run_bounds
from wav2vec_u.segments.fitted import require_fitted
from wav2vec_u.segments.kmeans import KMeans
from wav2vec_u.segments.pca import PCA
from wav2vec_u.segments.pooling import (
    bounds_of_pairs,
    codes_of_pairs,
    mean_of_pairs,
    mean_over_bounds,
)

PENALTY_SAMPLE_DISTANCES = 2**24  # 64 MiB held while the penalty is sought: 22 minutes at 100 Hz


@dataclass(frozen=True)
class Segments:
    """Segments of one utterance.

    Attributes
    ----------
    vectors : ndarray, shape (S, P), float32
    codes : ndarray, shape (S,), int32
        k-means cluster of each segment.
    bounds : ndarray, shape (S, 2), int32
        First frame, and the one after the last.
    """

    vectors: FloatArray
    codes: npt.NDArray[np.int32]
    bounds: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.vectors)


class Segmenter:
    """k-means, boundaries, averages and PCA of one corpus (paper, section 3.2).

    Parameters
    ----------
    config : SegmentsConfig

    Attributes
    ----------
    kmeans_ : KMeans
    pca_ : PCA
    penalty_ : float
        Cost of a boundary, in squared distance; 0 for boundaries by `clusters`.
    """

    kmeans_: KMeans
    pca_: PCA
    penalty_: float

    def __init__(self, config: SegmentsConfig) -> None:
        self.config = config

    def fit(self, store: FrameSource) -> Segmenter:
        """Learn from the frames of split ``train``; utterances that are not usable are passed over.

        Parameters
        ----------
        store : FrameStore

        Raises
        ------
        UserError
            If there is too little to learn from.
        """
        config = self.config
        blocks = train_blocks(store)
        self.kmeans_ = KMeans(
            n_clusters=config.clusters,
            n_iterations=config.kmeans_iterations,
            n_restarts=config.kmeans_restarts,
            seed=config.seed,
            sample_frames=config.kmeans_sample_frames,
        ).fit(blocks)
        self.pca_ = PCA(config.pca_dim).fit(blocks)
        self.penalty_ = self._find_penalty(store) if config.boundaries == "viterbi" else 0.0
        return self

    def _find_penalty(self, store: FrameSource) -> float:
        utterances = train_utterances(store)
        numpy_generator(self.config.seed, "penalty sample").shuffle(utterances)
        return find_penalty(
            list(self._sample_distances(store, utterances)),
            frame_rate_hz=store.frame_rate_hz,
            target_rate_hz=self.config.target_rate_hz,
            pairs=self.config.pool_pairs,
        )

    def _sample_distances(self, store: FrameSource, utterances: list[int]) -> Iterator[FloatArray]:
        room = PENALTY_SAMPLE_DISTANCES
        for i in utterances:
            frames = store.frames(i)
            if is_usable(frames):
                distances = self.kmeans_.distances(frames)
                yield distances
                room -= distances.size
                if room <= 0:
                    return

    def transform(self, frames: FloatArray) -> Segments:
        """Cut one utterance into segments; nothing is learned.

        Parameters
        ----------
        frames : ndarray, shape (T, D)
            May be empty, which gives no segments.

        Raises
        ------
        ValueError
            If D is not the dimension that was learned from.
        """
        require_fitted(self, "penalty_")
        expected = self.kmeans_.centroids_.shape[1]
        if frames.ndim != 2 or frames.shape[1] != expected:
            raise ValueError(f"frames have shape {frames.shape}; expected (T, {expected})")
        path = penalised_path(self.kmeans_.distances(frames), self.penalty_)  # (T,)
        bounds = run_bounds(path)  # (S, 2)
        codes = path[bounds[:, 0]]
        vectors = self.pca_.transform(mean_over_bounds(frames, bounds))  # (S, P)
        if self.config.pool_pairs:
            vectors = mean_of_pairs(vectors)
            codes = codes_of_pairs(codes, bounds)
            bounds = bounds_of_pairs(bounds)
        return Segments(vectors, codes, bounds)

    @property
    def dim(self) -> int:
        """Dimension P of the segments' vectors."""
        require_fitted(self, "penalty_")
        return len(self.pca_.components_)

    @property
    def frame_dim(self) -> int:
        """Numbers of a frame that `transform` takes."""
        require_fitted(self, "penalty_")
        return int(self.kmeans_.centroids_.shape[1])

    @property
    def figures(self) -> dict[str, float]:
        """What is worth knowing of the learning, by name."""
        require_fitted(self, "penalty_")
        return {
            "penalty": self.penalty_,
            "kmeans_inertia": self.kmeans_.inertia_ / self.kmeans_.n_frames_,
            "pca_explained": float(self.pca_.explained_variance_ratio_.sum()),
        }

    def save(self, path: Path) -> None:
        """Write settings and learned state to one safetensors file."""
        require_fitted(self, "penalty_")
        kmeans, pca = self.kmeans_, self.pca_
        state = {
            "config": self.config.model_dump(mode="json"),
            "penalty": self.penalty_,
            "kmeans": {
                "centroids": torch.from_numpy(kmeans.centroids_),
                "inertia": kmeans.inertia_,
                "n_frames": kmeans.n_frames_,
                "n_iterations": kmeans.n_iterations_,
            },
            "pca": {
                name: torch.from_numpy(np.ascontiguousarray(getattr(pca, f"{name}_")))
                for name in ("mean", "components", "explained_variance", "explained_variance_ratio")
            },
        }
        save_checkpoint(path, state)

    @classmethod
    def load(cls, path: Path) -> Segmenter:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file is missing, damaged, or no segmenter.
        """
        state = load_checkpoint(path)
        try:
            config = SegmentsConfig.model_validate(state["config"])
            segmenter = cls(config)
            segmenter.penalty_ = float(state["penalty"])
            segmenter.kmeans_ = KMeans(
                n_clusters=config.clusters,
                n_iterations=config.kmeans_iterations,
                n_restarts=config.kmeans_restarts,
                seed=config.seed,
                sample_frames=config.kmeans_sample_frames,
            )
            kmeans = state["kmeans"]
            segmenter.kmeans_.centroids_ = kmeans["centroids"].numpy()
            segmenter.kmeans_.inertia_ = kmeans["inertia"]
            segmenter.kmeans_.n_frames_ = kmeans["n_frames"]
            segmenter.kmeans_.n_iterations_ = kmeans["n_iterations"]
            segmenter.pca_ = PCA(config.pca_dim)
            for name, tensor in state["pca"].items():
                setattr(segmenter.pca_, f"{name}_", tensor.numpy())
        except (KeyError, TypeError, AttributeError, ValidationError) as error:
            raise UserError(f"{path}: holds no segmenter; run the segments stage again") from error
        return segmenter
