"""Cluster targets for masked prediction: k-means on MFCC first, on the network's own blocks later.

HuBERT (Hsu et al., 2021, section II-C): every round predicts clusters of better features than the
one before. Codes stand 20 ms apart, so that a step of 40 ms has two targets, one for each half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.encoder.encode import FRAME_SAMPLES, encode_blocks
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.features.mfcc import MfccEncoder
from wav2vec_u.pretrain.pack import AudioPack
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.progress import progress
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.segments.kmeans import KMeans

CODES_NAME = "codes.npy"
OFFSETS_NAME = "offsets.npy"
NO_CODE = -1
KMEANS_FRAMES = 200_000  # frames the clusters are learned from: an hour, spread over the corpus
KMEANS_RESTARTS = 1  # clusters of this many frames differ little from one start to the next
ENCODE_SECONDS = 60.0
MFCC_CEPSTRA = 13  # with differences, the usual 39 dimensions (HuBERT: the same)

Frames = npt.NDArray[np.float32]
Encode = Callable[[list[Frames]], list[Frames]]


def mfcc_frames(waveforms: list[Frames]) -> list[Frames]:
    """Return MFCC with differences, normalised over each utterance, (T, 39) at 50 Hz each."""
    encoder = MfccEncoder(cepstra=MFCC_CEPSTRA, deltas=True)
    halved = []
    for frames in encoder.encode(waveforms):
        pairs = len(frames) // 2
        halved.append(frames[: 2 * pairs].reshape(pairs, 2, frames.shape[1]).mean(axis=1))
    return halved


def block_frames(network: SpeechNetwork, block: int) -> Encode:
    """Return a function that gives the output of one block, (T, D) at 50 Hz for each waveform.

    Raises
    ------
    UserError
        If there is no such block.
    """
    if block >= network.config.blocks:
        raise UserError(
            f"pretrain.rounds: targets `{block}`, but the last block is {network.config.blocks - 1}"
        )

    def encode(waveforms: list[Frames]) -> list[Frames]:
        return [blocks[0] for blocks in encode_blocks(network, waveforms, [block])]

    return encode


def write_targets(
    folder: Path, pack: AudioPack, encode: Encode, clusters: int, seed: int
) -> dict[str, float]:
    """Learn clusters from a sample of utterances, and code all of them.

    Parameters
    ----------
    folder : Path
        Gets ``codes.npy`` (int16, all utterances behind one another) and ``offsets.npy``.
    pack : AudioPack
    encode : callable
        Frames at 50 Hz, see `mfcc_frames` and `block_frames`.
    clusters : int
    seed : int

    Returns
    -------
    dict
        ``inertia`` (mean squared distance of a frame to its centroid over the sample) and
        ``code_perplexity`` (2 to the power of the entropy of the codes).

    Raises
    ------
    UserError
        If there are fewer frames than clusters.
    """
    order = numpy_generator(seed, "targets", "sample").permutation(len(pack))
    frames_of = np.maximum(pack.lengths[order] // FRAME_SAMPLES, 1)
    enough = int(np.searchsorted(np.cumsum(frames_of), KMEANS_FRAMES)) + 1
    sample = np.concatenate([frames for _, frames in _encoded(pack, order[:enough], encode)])
    if len(sample) < clusters:
        raise UserError(
            f"pretrain.rounds: {clusters} clusters cannot be learned from {len(sample)} frames; "
            "give more audio or set fewer clusters"
        )
    kmeans = KMeans(clusters, n_restarts=KMEANS_RESTARTS, seed=seed).fit(lambda: [sample])

    coded: dict[int, npt.NDArray[np.int16]] = {}
    by_length = np.argsort(pack.lengths, kind="stable")
    steps = progress(_encoded(pack, by_length, encode), label="targets", total=len(pack))
    for index, frames in steps:
        coded[index] = kmeans.predict(frames).astype(np.int16)
    codes = save_targets(folder, [coded[index] for index in range(len(pack))])
    shares = np.bincount(codes, minlength=clusters) / len(codes)
    used = shares[shares > 0]
    return {
        "inertia": kmeans.inertia_ / kmeans.n_frames_,
        "code_perplexity": float(2 ** -(used * np.log2(used)).sum()),
    }


def save_targets(folder: Path, coded: list[npt.NDArray[np.int16]]) -> npt.NDArray[np.int16]:
    """Write the codes of all utterances, 20 ms each, and return them behind one another."""
    codes = np.concatenate(coded)
    np.save(folder / CODES_NAME, codes)
    np.save(folder / OFFSETS_NAME, np.cumsum([0] + [len(row) for row in coded]))
    return codes


class Targets:
    """Reads what `save_targets` wrote."""

    def __init__(self, folder: Path) -> None:
        try:
            self._codes = np.load(folder / CODES_NAME, mmap_mode="r")
            self._offsets = np.load(folder / OFFSETS_NAME)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{folder}: holds no readable targets; remove it and run again") from (
                error
            )

    def codes(self, index: int, first: int, count: int) -> npt.NDArray[np.int64]:
        """Return codes of an utterance from `first` on, (count,); `NO_CODE` beyond its end."""
        start, stop = int(self._offsets[index]) + first, int(self._offsets[index + 1])
        found = self._codes[start : min(stop, start + count)]
        codes = np.full(count, NO_CODE, dtype=np.int64)
        codes[: len(found)] = found
        return codes


def _encoded(
    pack: AudioPack, order: npt.NDArray[np.int64], encode: Encode
) -> Iterator[tuple[int, Frames]]:
    """Encode utterances in batches of neighbours in `order`."""
    batch: list[int] = []
    longest = 0
    for index in order:
        longest = max(longest, int(pack.lengths[index]))
        # All are padded to the longest: many short ones beside it would cost as much as it does.
        if batch and longest * (len(batch) + 1) > ENCODE_SECONDS * SAMPLE_RATE:
            yield from zip(batch, encode([pack.samples(i) for i in batch]), strict=True)
            batch, longest = [], int(pack.lengths[index])
        batch.append(int(index))
    if batch:
        yield from zip(batch, encode([pack.samples(i) for i in batch]), strict=True)
