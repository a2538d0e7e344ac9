"""From utterances to frames: the one path that training and transcription share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wav2vec_u.config import SAMPLE_RATE, FeaturesConfig
from wav2vec_u.corpus.audio import AudioError
from wav2vec_u.features.encoder import Encoder
from wav2vec_u.features.moments import Moments, standardize
from wav2vec_u.silence.spans import SpanMap, frame_is_speech
from wav2vec_u.silence.speech import Utterance, load_waveform

SilenceMode = Literal["cut", "mask"]
HALF_WINDOW_S = 0.0125  # a frame is judged by its centre: MFCC and the wav2vec family see 25 ms


@dataclass(frozen=True)
class Extracted:
    """Frames of one utterance.

    Attributes
    ----------
    frames : ndarray of shape (T, D), float32
    times : ndarray of shape (T,), float32
        Start of each frame in the original recording, seconds.
    """

    frames: np.ndarray
    times: np.ndarray


@dataclass(frozen=True)
class Rejected:
    """Why an utterance has no frames: one word, and a sentence."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Waveform:
    """Samples of one utterance, (samples,) float32, and their way back to the recording."""

    samples: np.ndarray
    span_map: SpanMap


class Extractor:
    """Load, encode, drop silence, normalise.

    Parameters
    ----------
    encoder : Encoder
        What makes the frames, as `load_encoder(config)` returns it.
    config : FeaturesConfig
        For the normalisation of MFCC.
    silence_mode : {"cut", "mask"}
        ``cut``: the encoder hears speech alone; ``mask``: it hears the whole stretch, and the
        frames that are no speech are dropped after.
    speakers : mapping of str to Moments
        Statistics of MFCC frames before normalisation, for ``mfcc_normalize: speaker``. An
        utterance of a speaker that is not in it is normalised by itself.
    """

    def __init__(
        self,
        encoder: Encoder,
        config: FeaturesConfig,
        silence_mode: SilenceMode,
        speakers: Mapping[str, Moments] | None = None,
    ) -> None:
        self._encoder = encoder
        self._normalize = config.mfcc_normalize if config.encoder == "mfcc" else "none"
        self._silence_mode = silence_mode
        self._speakers = speakers or {}

    def load(self, utterances: Sequence[Utterance]) -> list[Waveform | Rejected]:
        """Read the audio of a batch; may run in another thread than `encode`."""
        return [self._load(utterance) for utterance in utterances]

    def encode(
        self, utterances: Sequence[Utterance], loaded: Sequence[Waveform | Rejected]
    ) -> list[Extracted | Rejected]:
        """Turn a loaded batch into frames, one result an utterance, in order."""
        waveforms = [item.samples for item in loaded if isinstance(item, Waveform)]
        encoded = iter(self._encoder.encode(waveforms))
        return [
            item if isinstance(item, Rejected) else self._finish(utterance, item, next(encoded))
            for utterance, item in zip(utterances, loaded, strict=True)
        ]

    def encode_waveforms(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        """Encode speech that stands in no recording: (samples,) float32 to (T, D) float32 each.

        All of it is taken for speech of nobody else's.
        """
        return [self._normalized(frames, None) for frames in self._encoder.encode(waveforms)]

    def _load(self, utterance: Utterance) -> Waveform | Rejected:
        try:
            samples, span_map = load_waveform(utterance, self._silence_mode)
        except AudioError as error:
            return Rejected(error.reason, error.detail)
        return Waveform(samples, span_map)

    def _finish(
        self, utterance: Utterance, waveform: Waveform, frames: np.ndarray
    ) -> Extracted | Rejected:
        if len(frames) == 0:
            seconds = len(waveform.samples) / SAMPLE_RATE
            return Rejected("too_short", f"{seconds:.3f} s give no frame of {self._encoder.name}")
        starts = np.arange(len(frames)) / self._encoder.frame_rate_hz  # (T,) in the waveform
        times = waveform.span_map.to_original(starts)  # (T,) in the recording
        if self._silence_mode == "mask":
            speech = frame_is_speech(times + HALF_WINDOW_S, utterance.spans)  # (T,)
            frames, times = frames[speech], times[speech]
            if len(frames) == 0:
                return Rejected("no_speech", "no frame has its centre in a stretch of speech")
        frames = self._normalized(frames, utterance.speaker)
        with np.errstate(over="ignore"):
            finite = bool(np.isfinite(frames.astype(np.float16)).all())  # as they will be stored
        if not finite:
            return Rejected(
                "non_finite", f"{self._encoder.name} gives numbers that half precision cannot hold"
            )
        return Extracted(frames, times.astype(np.float32))

    def _normalized(self, frames: np.ndarray, speaker: str | None) -> np.ndarray:
        if self._normalize == "utterance" and self._silence_mode == "mask":
            # The encoder saw the silence too; what is kept sets the mean and variance anew.
            return standardize(frames, Moments().add(frames))
        if self._normalize == "speaker":
            own = self._speakers.get(speaker) if speaker is not None else None
            return standardize(frames, own or Moments().add(frames))
        return frames
