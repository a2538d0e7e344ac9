"""The MFCC cluster of every segment, which the GAN's auxiliary loss asks for.

Wav2vec-U 2.0 takes 64 clusters of MFCC with differences. Segments are of any kind here, so a
segment's MFCC are the mean of the frames inside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.config import FeaturesConfig
from wav2vec_u.features.encoder import load_encoder
from wav2vec_u.features.extract import HALF_WINDOW_S, Extracted, Extractor, SilenceMode
from wav2vec_u.matching.batches import training_utterances
from wav2vec_u.matching.gan.auxiliary import NO_CODE
from wav2vec_u.runtime.progress import progress
from wav2vec_u.segments.kmeans import KMeans
from wav2vec_u.segments.store import NpyAppender, NpyRows, SegmentStore
from wav2vec_u.silence.speech import read_speech

FEATURES = FeaturesConfig(encoder="mfcc", mfcc_cepstra=13, mfcc_deltas=True)
CODES_NAME, MEANS_NAME, PARTIAL_NAME = "mfcc_codes.npy", "mfcc_means.npy", "mfcc_codes.partial"
KMEANS_SEGMENTS = 200_000  # that the clusters are learned from

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Recordings:
    """Where the audio of the segments is.

    Attributes
    ----------
    speech : Path
        A finished `silence` artefact.
    silence_mode : {"cut", "mask"}
        `SilenceConfig.mode`.
    """

    speech: Path
    silence_mode: SilenceMode


class MfccCodes:
    """Codes on disk, of the training utterances of a segment store.

    Parameters
    ----------
    folder : Path
        What `write_mfcc_codes` was given.
    store : SegmentStore
    """

    def __init__(self, folder: Path, store: SegmentStore) -> None:
        self._rows = NpyRows(folder / CODES_NAME)
        self._offsets: dict[int, int] = {}
        self._store = store
        offset = 0
        for i in training_utterances(store):
            self._offsets[i] = offset
            offset += store.length(i)

    def __call__(self, i: int) -> NDArray[np.int32]:
        """Return the code of each segment, (S,) int32; -1 where the audio could not be read."""
        return self._rows.read(self._offsets[i], self._store.length(i))


def write_mfcc_codes(
    folder: Path, recordings: Recordings, store: SegmentStore, n_codes: int, seed: int
) -> MfccCodes:
    """Cluster the MFCC of all training segments.

    Parameters
    ----------
    folder : Path
        Gets ``mfcc_codes.npy``; what an interrupted call left there is replaced.
    recordings : Recordings
    store : SegmentStore
    n_codes : int
        Clusters.
    seed : int
        Of the clustering.
    """
    utterances = training_utterances(store)
    unread = _write_means(folder, recordings, store, utterances)
    means = NpyRows(folder / MEANS_NAME)
    lengths = [store.length(i) for i in utterances]
    offsets = np.cumsum([0, *lengths])
    blocks = [
        (int(offset), length)
        for i, offset, length in zip(utterances, offsets, lengths, strict=False)
        if i not in unread
    ]
    kmeans = KMeans(n_codes, n_restarts=1, seed=seed, sample_frames=KMEANS_SEGMENTS)
    kmeans.fit(lambda: (means.read(*block) for block in blocks))
    codes = NpyAppender(folder / PARTIAL_NAME, np.int32, ())
    for i, offset, length in zip(utterances, offsets, lengths, strict=False):
        found = kmeans.predict(means.read(int(offset), length))
        codes.append(np.full(length, NO_CODE, np.int32) if i in unread else found)
    codes.close()
    (folder / MEANS_NAME).unlink()
    (folder / PARTIAL_NAME).replace(folder / CODES_NAME)  # what has this name is whole
    return MfccCodes(folder, store)


def _write_means(
    folder: Path, recordings: Recordings, store: SegmentStore, utterances: list[int]
) -> set[int]:
    """Write the mean MFCC of every segment; return the utterances whose audio gives none."""
    encoder = load_encoder(FEATURES)
    extractor = Extractor(encoder, FEATURES, recordings.silence_mode)
    by_id = {utterance.id: utterance for utterance in read_speech(recordings.speech)}
    means = NpyAppender(folder / MEANS_NAME, np.float32, (encoder.dim,))
    unread = set()
    for i in progress(utterances, label="clusters of MFCC", total=len(utterances)):
        utterance = [by_id[store.ids[i]]]
        (extracted,) = extractor.encode(utterance, extractor.load(utterance))
        if isinstance(extracted, Extracted):
            means.append(mean_over_times(extracted.frames, extracted.times, store.times(i)))
        else:
            unread.add(i)
            means.append(np.zeros((store.length(i), encoder.dim), np.float32))
    means.close()
    return unread


def mean_over_times(
    frames: Floats, times: NDArray[np.float32], segments: NDArray[np.float32]
) -> Floats:
    """Average the frames whose centres lie in each segment.

    Parameters
    ----------
    frames : ndarray, shape (T, D)
    times : ndarray, shape (T,)
        Start of each frame in the recording, seconds, rising.
    segments : ndarray, shape (S, 2)
        Start and end in the recording, seconds, rising. A segment that no frame's centre lies in
        gets the frame nearest to its middle.

    Returns
    -------
    ndarray, shape (S, D)
    """
    centres = times + HALF_WINDOW_S
    first = np.searchsorted(centres, segments[:, 0])
    behind = np.searchsorted(centres, segments[:, 1])
    sums = np.concatenate([np.zeros((1, frames.shape[1])), frames.cumsum(0, dtype=np.float64)])
    count = behind - first
    means: Floats = ((sums[behind] - sums[first]) / np.maximum(count, 1)[:, None]).astype(
        np.float32
    )
    for empty in np.flatnonzero(count <= 0):
        means[empty] = frames[np.abs(centres - segments[empty].mean()).argmin()]
    return means
