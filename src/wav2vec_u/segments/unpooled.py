"""Frames that are projected like segments and not pooled, for what comes after the matching.

The matching wants few vectors, each of one phone. Once phones are known, where each of them begins
and ends can be asked of the frames themselves, as the paper's hidden Markov models do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.features.store import FrameStore
from wav2vec_u.segments.blocks import FloatArray
from wav2vec_u.segments.boundaries import bounds_in_seconds
from wav2vec_u.segments.pca import PCA
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStore

RATE_HZ = 50.0  # of what is read: faster frames are put side by side
UNKNOWN = -1


class Unpooler:
    """Turns frames into vectors, `RATE_HZ` a second or as many as there are frames.

    Parameters
    ----------
    pca : PCA
        Of the segmenter.
    frame_rate_hz : float
        Frames a second.

    Attributes
    ----------
    stack : int
        Frames side by side in one vector.
    dim, frame_dim : int
        Numbers of a vector, and of a frame.
    """

    def __init__(self, pca: PCA, frame_rate_hz: float) -> None:
        self._pca = pca
        self.stack = max(1, round(frame_rate_hz / RATE_HZ))
        n_components, self.frame_dim = pca.components_.shape
        self.dim = self.stack * n_components

    def transform(self, frames: FloatArray) -> Segments:
        """Project the frames (T, D) of an utterance; a rest that fills no vector is left out.

        Returns
        -------
        Segments
            ⌊T / `stack`⌋ of them, their bounds in frames, all codes 0.
        """
        count = len(frames) // self.stack
        rows = self._pca.transform(frames[: count * self.stack])  # (T, P)
        return Segments(
            rows.reshape(count, self.dim),
            np.zeros(count, dtype=np.int32),
            self.bounds(len(frames)),
        )

    def bounds(self, n_frames: int) -> NDArray[np.int32]:
        """Return the first frame of every vector and the one after its last, (S, 2)."""
        starts = self.stack * np.arange(n_frames // self.stack, dtype=np.int32)
        return np.stack([starts, starts + self.stack], axis=1)


class UnpooledFrames:
    """The utterances of a segment store, frame by frame; nothing is written.

    Parameters
    ----------
    segments : SegmentStore
        Whose utterances, and their order, are taken over.
    features : FrameStore
        The frames that the segments were made of.
    unpooler : Unpooler

    Attributes
    ----------
    ids, splits, speakers : list
        Of each utterance.
    dim : int
        Numbers of a vector.
    """

    def __init__(self, segments: SegmentStore, features: FrameStore, unpooler: Unpooler) -> None:
        self._segments = segments
        self._features = features
        self._unpooler = unpooler
        places = {name: place for place, name in enumerate(features.ids)}
        self._places = [places[name] for name in segments.ids]
        self.ids, self.splits, self.speakers = segments.ids, segments.splits, segments.speakers
        self.dim = unpooler.dim

    def __len__(self) -> int:
        return len(self.ids)

    def length(self, i: int) -> int:
        """Return the number S of vectors of utterance `i`."""
        return int(self._features.lengths[self._places[i]]) // self._unpooler.stack

    def vectors(self, i: int) -> FloatArray:
        """Return the vectors of utterance `i`, shape (S, P), float32."""
        return self._unpooler.transform(self._features.frames(self._places[i])).vectors

    def times(self, i: int) -> NDArray[np.float32]:
        """Return start and end in the original recording, seconds, shape (S, 2), float32."""
        times = self._features.times(self._places[i])
        return bounds_in_seconds(
            self._unpooler.bounds(len(times)), times, self._features.frame_rate_hz
        )

    def spread(self, i: int, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Give the vectors of an utterance the labels of its segments.

        Parameters
        ----------
        i : int
        labels : ndarray, shape (S,)
            Of the segments.

        Returns
        -------
        ndarray, shape (S',)
            Of the vectors; -1 where a vector holds frames of two labels.
        """
        bounds = self._segments.bounds(i)
        by_frame = np.repeat(labels, bounds[:, 1] - bounds[:, 0])  # (T,)
        stack, count = self._unpooler.stack, self.length(i)
        rows = by_frame[: count * stack].reshape(count, stack)
        same = (rows == rows[:, :1]).all(axis=1)
        spread: NDArray[np.int32] = np.where(same, rows[:, 0], UNKNOWN).astype(np.int32)
        return spread
