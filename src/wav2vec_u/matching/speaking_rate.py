"""How many phones a second are said, told without a label: by how fast segments change.

The faster someone speaks, the more a segment differs from those after it. How much more, the
synthetic voice tells, whose phones are counted. What is heard of a recording can then be held
against what must have been said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.matching.batches import SegmentSource
from wav2vec_u.matching.frame_hmm import PAUSE

LAGS = (1, 2)  # segments: with more of them it is told no better (measured)
SHORTEST = 80  # segments, below which an utterance tells little
LEAST_UTTERANCES = 20

_Floats = NDArray[np.float32]


class LabelledSegments(Protocol):
    """What is needed of `synthetic.SyntheticSegments`."""

    def __len__(self) -> int: ...
    def vectors(self, i: int, /) -> _Floats: ...
    def labels(self, i: int, /) -> NDArray[np.int32]: ...


def estimate_phone_rate(
    synthetic: LabelledSegments,
    segments: SegmentSource,
    utterances: Sequence[int],
    segment_rate_hz: float,
) -> float | None:
    """Estimate the phones a second of some utterances.

    Parameters
    ----------
    synthetic : LabelledSegments
        Of the same mean and covariance, said at many rates.
    segments : SegmentSource
    utterances : sequence of int
        Of `segments`.
    segment_rate_hz : float
        Segments a second, of both.

    Returns
    -------
    float or None
        Phones a second of speech, pauses aside; None where there is too little of either to tell.
    """
    changes, rates = [], []
    for i in range(len(synthetic)):
        labels = synthetic.labels(i)
        spoken = labels != PAUSE
        if spoken.sum() >= SHORTEST:
            begins = np.concatenate([[True], labels[1:] != labels[:-1]])
            changes.append(_change(synthetic.vectors(i)[spoken]))
            rates.append((begins & spoken).sum() / spoken.sum())
    heard, lengths = [], []
    for i in utterances:  # one after the other: all of a corpus would fill the memory
        vectors = segments.vectors(i)
        if len(vectors) >= SHORTEST:
            heard.append(_change(vectors))
            lengths.append(len(vectors))
    if len(rates) < LEAST_UTTERANCES or not heard:
        return None
    weights, *_ = np.linalg.lstsq(_with_one(np.array(changes)), np.array(rates), rcond=None)
    mean = np.average(_with_one(np.array(heard)) @ weights, weights=lengths)
    return float(max(0.0, mean) * segment_rate_hz)


def _change(vectors: _Floats) -> NDArray[np.float64]:
    """Return the mean squared difference at every lag, as a share of that of strangers, (L,)."""
    centred = vectors - vectors.mean(axis=0)
    strangers = 2 * np.square(centred).sum(axis=1).mean()
    differences = (np.square(vectors[lag:] - vectors[:-lag]).sum(axis=1).mean() for lag in LAGS)
    return np.array([difference / max(strangers, 1e-12) for difference in differences])


def _with_one(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
