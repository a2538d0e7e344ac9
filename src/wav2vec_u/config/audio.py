"""Settings of what happens to recordings: which are taken in, their speech, their frames."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wav2vec_u.config.base import PositiveFloat, Probability, Settings


class CorpusConfig(Settings):
    """Which recordings are taken in."""

    min_seconds: PositiveFloat = Field(0.3, description="shorter recordings are rejected")
    min_peak: PositiveFloat = Field(1e-4, description="recordings that never get louder are silent")
    max_flatness: Probability = Field(
        0.15,
        description="of the spectra of its loudest frames: above it a recording is noise, as raw "
        "audio read in the wrong byte order is (measured: speech has less than 0.04)",
    )
    held_out_fraction: Probability = Field(
        0.0, description="share of recordings put into split `test` where the input names no splits"
    )


class SilenceConfig(Settings):
    """Voice activity detection and the cutting of utterances."""

    method: Literal["rvad", "silero", "none"] = Field("rvad", description="paper: rVAD")
    mode: Literal["cut", "mask"] = Field(
        "cut",
        description="cut silence out of the waveform (reference) or drop its frames after encoding",
    )
    threshold: Probability = Field(0.4, description="rVAD's vadThres (reference) or Silero's level")
    window_seconds: Annotated[float, Field(ge=5)] = Field(
        60.0,
        description="rVAD's memory grows with length (0.26 GB for 60 s): work in windows of this "
        "size, each with a second of context",
    )
    merge_gap_seconds: Annotated[float, Field(ge=0)] = Field(
        0.1, description="pauses shorter than this are kept as speech"
    )
    min_speech_seconds: PositiveFloat = Field(0.1, description="shorter bursts are dropped")
    margin_seconds: Annotated[float, Field(ge=0)] = Field(
        0.3,
        description="kept before and after what the detector calls speech: it misses the weak "
        "sounds at the ends of words (published code: none)",
    )
    max_utterance_seconds: PositiveFloat = Field(
        30.0, description="longer recordings are split at their pauses"
    )


class FeaturesConfig(Settings):
    """Frames from speech."""

    encoder: str = Field(
        "base",
        description="`base` (ships with the package), `mfcc`, the folder of an encoder of our own, "
        "or a Hugging Face name or local checkpoint",
    )
    layer: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="0-based block whose output is taken; null: the one that an encoder of our own "
        "recommends, and 14 of a published one (paper: block 15 of 24)",
    )
    batch_seconds: PositiveFloat = Field(60.0, description="audio in one length-bucketed batch")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:0`")
    mfcc_cepstra: Annotated[int, Field(gt=0, le=22)] = Field(
        20, description="cepstral coefficients (measured: 20 without deltas give purer segments)"
    )
    mfcc_deltas: bool = Field(
        False, description="append first and second differences; 13 cepstra then give the usual 39"
    )
    mfcc_normalize: Literal["utterance", "speaker", "none"] = Field(
        "utterance", description="mean and variance normalisation of MFCC frames"
    )
