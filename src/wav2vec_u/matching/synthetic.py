"""Synthetic speech as segments whose phones are known, because a synthesiser has said them.

The unpaired text is read aloud by the espeak-ng voice of its language; its speech goes the way of
the recordings, through the same encoder and the same segmenter. No recording is transcribed for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec_u.config import SAMPLE_RATE, FeaturesConfig
from wav2vec_u.features.batching import length_batches
from wav2vec_u.features.encoder import load_encoder
from wav2vec_u.features.extract import Extractor, SilenceMode
from wav2vec_u.matching.batches import SegmentSource
from wav2vec_u.matching.frame_teacher import UNKNOWN
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.segments.blocks import is_usable
from wav2vec_u.segments.frame_segmenter import FrameSegmenter
from wav2vec_u.segments.load import load_segmenter
from wav2vec_u.segments.pca import Moments
from wav2vec_u.segments.segmenter import Segmenter, Segments
from wav2vec_u.segments.store import SegmentStore, SegmentStoreWriter
from wav2vec_u.synthesis.speech import Script, SyntheticUtterance, speak
from wav2vec_u.text.aloud import sample_lines

MOST_LINES = 50_000  # of the text, drawn for the voice to choose from
SORTED_TOGETHER = 256  # utterances, so that little is padded and few are held
RIDGE = 1e-3  # of the mean variance
_SAID = "said"
LEAST_KNOWN = 0.85  # of the frames: the rest may be phones too rare to be kept


@dataclass(frozen=True)
class Speaker:
    """All it takes to make segments of speech that nobody recorded.

    Attributes
    ----------
    text : Path
        What is read aloud.
    language : str
        espeak-ng voice.
    features : FeaturesConfig
    silence_mode : str
        `SilenceConfig.mode`.
    segments : Path
        Finished segments stage, whose segmenter is used.
    """

    text: Path
    language: str
    features: FeaturesConfig
    silence_mode: SilenceMode
    segments: Path


def write_synthetic(
    folder: Path, speaker: Speaker, outputs: dict[str, int], hours: float, seed: int, workers: int
) -> None:
    """Let the text be read, and write it down as segments.

    Parameters
    ----------
    folder : Path
        Gets what `SyntheticSegments` reads. What an interrupted call said is not said again.
    speaker : Speaker
    outputs : dict of str to int
        Label of each phone; the empty phone is the pause.
    hours : float
    seed : int
    workers : int
        Processes that speak.

    Raises
    ------
    UserError
        If nothing in the text can be read aloud, espeak-ng cannot speak, or its voice calls the
        phones otherwise than `outputs` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = sample_lines(speaker.text, MOST_LINES, numpy_generator(seed, "lines read aloud"))
    script = Script(tuple(lines), (speaker.language,))
    encoder = load_encoder(speaker.features)
    extractor = Extractor(encoder, speaker.features, speaker.silence_mode)
    segmenter = load_segmenter(speaker.segments)
    known = named = 0
    with SegmentStoreWriter(folder, segmenter.dim, encoder.frame_rate_hz) as writer:
        said = speak(folder / _SAID, [script], hours, seed, workers)
        for utterance, segments, times in _heard(
            said, extractor, segmenter, encoder.frame_rate_hz, speaker.features.batch_seconds
        ):
            middles = segments.bounds.mean(axis=1) / encoder.frame_rate_hz * SAMPLE_RATE
            phones = utterance.phones_at(middles.astype(np.int64))
            labels = np.array([outputs.get(phone, UNKNOWN) for phone in phones], dtype=np.int32)
            named += len(labels)
            known += int((labels != UNKNOWN).sum())
            writer.append(
                utterance.id,
                Segments(segments.vectors, labels, segments.bounds),
                times,
                split="train",
                speaker=None,
            )
    shutil.rmtree(folder / _SAID)
    # The phones of tonal languages have their tones in the text, and not where they are said.
    if known < LEAST_KNOWN * named:
        raise UserError(
            f"matching: of what the voice {speaker.language} says, {1 - known / named:.0%} is "
            "called otherwise in the text; set matching.method to decipherment"
        )


def _heard(
    said: Iterator[SyntheticUtterance],
    extractor: Extractor,
    segmenter: Segmenter | FrameSegmenter,
    frame_rate_hz: float,
    batch_seconds: float,
) -> Iterator[tuple[SyntheticUtterance, Segments, NDArray[np.float32]]]:
    """Encode and cut; utterances too short for a frame are passed over."""
    for batch in length_batches(said, _seconds, batch_seconds, window=SORTED_TOGETHER):
        waveforms = [item.samples.astype(np.float32) / np.float32(32_768) for item in batch]
        encoded = extractor.encode_waveforms(waveforms)
        for utterance, frames in zip(batch, encoded, strict=True):
            if is_usable(frames):
                times = np.arange(len(frames), dtype=np.float32) / np.float32(frame_rate_hz)
                yield utterance, segmenter.transform(frames), times


def _seconds(utterance: SyntheticUtterance) -> float:
    return len(utterance.samples) / SAMPLE_RATE


class SyntheticSegments:
    """What `write_synthetic` wrote, moved to the mean and covariance of real segments.

    A synthetic voice in its clean room differs from a real one in every number of a frame; what is
    the same for all phones goes away by whitening the one and colouring it as the other (CORAL, Sun
    et al. 2016, *Return of frustratingly easy domain adaptation*).

    Parameters
    ----------
    folder : Path
    real : SegmentSource
    utterances : sequence of int
        Of `real`, that are compared with.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """

    def __init__(self, folder: Path, real: SegmentSource, utterances: Sequence[int]) -> None:
        self._store = SegmentStore(folder)
        own, other = _moments(self._store, range(len(self._store))), _moments(real, utterances)
        covariance, wanted = own.scatter / own.count, other.scatter / other.count
        # Directions that hardly vary would otherwise be blown up.
        whiten = _power(_ridged(covariance), -0.5)
        colour = _power(_ridged(wanted), 0.5)
        matrix = whiten @ colour
        self._matrix = torch.from_numpy(matrix.astype(np.float32))
        self._shift = torch.from_numpy((other.mean - own.mean @ matrix).astype(np.float32))

    def __len__(self) -> int:
        return len(self._store)

    @property
    def dim(self) -> int:
        """Dimension P of the segment vectors."""
        return self._store.dim

    @property
    def splits(self) -> list[str]:
        """All of it may be learned from."""
        return self._store.splits

    def vectors(self, i: int) -> NDArray[np.float32]:
        """Return the vectors of utterance `i`, (S, P)."""
        # By torch: NumPy's threads wait busily, in the way of those that learn from the result.
        vectors = torch.from_numpy(self._store.vectors(i))
        moved: NDArray[np.float32] = torch.addmm(self._shift, vectors, self._matrix).numpy()
        return moved

    def labels(self, i: int) -> NDArray[np.int32]:
        """Return the output that each segment asks for, (S,), or `UNKNOWN`."""
        return self._store.codes(i)


def _moments(source: SegmentSource, utterances: Sequence[int]) -> Moments:
    blocks = (source.vectors(i) for i in utterances)
    return reduce(Moments.merge, (Moments.of(block) for block in blocks if len(block)))


def _ridged(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    share = RIDGE * np.trace(covariance) / len(covariance)
    ridged: NDArray[np.float64] = covariance + share * np.eye(len(covariance))
    return ridged


def _power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Raise a symmetric matrix without negative eigenvalues to a power."""
    values, vectors = np.linalg.eigh(matrix)
    raised: NDArray[np.float64] = (vectors * np.maximum(values, 1e-8) ** exponent) @ vectors.T
    return raised
