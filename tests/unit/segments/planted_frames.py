"""Frame sources held in memory, and frames whose segments are known."""

from __future__ import annotations

import numpy as np


class MemoryFrames:
    """What `segments` needs of a frame store, from arrays."""

    def __init__(self, utterances, *, splits=None, frame_rate_hz=100.0):
        self._utterances = [np.asarray(item, dtype=np.float32) for item in utterances]
        self.ids = [f"utterance-{i}" for i in range(len(utterances))]
        self.splits = list(splits) if splits is not None else ["train"] * len(utterances)
        self.speakers = [None] * len(utterances)
        self.dim = self._utterances[0].shape[1]
        self.frame_rate_hz = frame_rate_hz

    def __len__(self):
        return len(self._utterances)

    def frames(self, i):
        return self._utterances[i]

    def times(self, i):
        return np.arange(len(self._utterances[i]), dtype=np.float32) / self.frame_rate_hz


def piecewise(rng, centres, n_segments, *, noise, shortest=3, longest=12):
    """Return frames that stay at one centre for a while, and the bounds of these stretches."""
    labels = [int(rng.integers(len(centres)))]
    while len(labels) < n_segments:
        label = int(rng.integers(len(centres)))
        if label != labels[-1]:
            labels.append(label)
    lengths = rng.integers(shortest, longest + 1, size=n_segments)
    frames = np.repeat(centres[labels], lengths, axis=0)
    frames = frames + noise * rng.normal(size=frames.shape)
    ends = np.cumsum(lengths)
    bounds = np.stack([ends - lengths, ends], axis=1)
    return frames.astype(np.float32), bounds, np.array(labels)
