"""Every setting of the system, in one place.

One frozen model a stage; unknown keys are refused, so that a typing mistake in a YAML file is an
error and not a silently ignored wish. Defaults name where they come from: ``paper`` is Baevski et
al. (2021), *Unsupervised Speech Recognition*; ``reference`` is the code published with it;
``measured`` stands in RESULTS.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wav2vec_u.runtime.errors import UserError

SAMPLE_RATE = 16_000  # Hz; what every published speech encoder expects

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Base of all settings: immutable, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusConfig(Settings):
    """Which recordings are taken in."""

    min_seconds: PositiveFloat = Field(0.3, description="shorter recordings are rejected")
    min_peak: PositiveFloat = Field(1e-4, description="recordings that never get louder are silent")
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
    max_utterance_seconds: PositiveFloat = Field(
        30.0, description="longer recordings are split at their pauses"
    )


class FeaturesConfig(Settings):
    """Frames from speech."""

    encoder: str = Field("mfcc", description="`mfcc`, or a Hugging Face name or local checkpoint")
    layer: Annotated[int, Field(ge=0)] = Field(
        14, description="0-based transformer block whose output is taken (paper: block 15 of 24)"
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


class SegmentsConfig(Settings):
    """Segments from frames."""

    boundaries: Literal["clusters", "viterbi"] = Field(
        "viterbi",
        description="runs of equal k-means cluster (paper), or a duration-penalised Viterbi path "
        "over the clusters whose penalty is found so that the rate hits `target_rate_hz`",
    )
    clusters: PositiveInt = Field(128, description="paper: 128")
    kmeans_iterations: PositiveInt = Field(50, description="reference: faiss niter = 50")
    kmeans_restarts: PositiveInt = Field(3, description="reference: faiss nredo = 3")
    kmeans_sample_frames: PositiveInt = Field(
        400_000, description="frames held in memory to start k-means; Lloyd streams over all frames"
    )
    pca_dim: PositiveInt = Field(512, description="paper: 512; capped at the feature dimension")
    pool_pairs: bool = Field(False, description="average adjacent pairs of segments (paper: yes)")
    target_rate_hz: PositiveFloat = Field(14.0, description="literature: 14-16 Hz converges")
    seed: int = 0


class TextConfig(Settings):
    """Phones from unpaired text."""

    phonemizer: Literal["espeak", "lexicon", "graphemes"] = "espeak"
    lexicon: Path | None = Field(None, description="word<TAB or space>phones, for `lexicon`")
    min_word_count: PositiveInt = Field(2, description="reference: fairseq-preprocess threshold 2")
    min_phone_share: Probability = Field(
        1e-4, description="phones rarer than this share of all phones are dropped with their words"
    )
    min_sentence_phones: PositiveInt = Field(3, description="shorter sentences teach nothing")
    silence_probability: Probability = Field(0.25, description="paper: 0.25 between words")
    surround_with_silence: bool = Field(True, description="paper: <SIL> at both ends")
    language_filter: bool = Field(
        False, description="drop lines whose letters are not those of most lines"
    )
    ngram_order: Annotated[int, Field(ge=2, le=6)] = Field(4, description="paper: phone 4-gram")
    seed: int = 0


class GanConfig(Settings):
    """The paper's objective (section 4); numbers of the reference `w2vu.yaml`."""

    reference: bool = Field(
        False, description="behave as the reference code does, its quirks included"
    )
    segmenter: Literal["none", "random", "uniform", "uniform_join", "join"] = "join"
    segmenter_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="share of steps that random and uniform keep; reference: 0.25"
    )
    generator_kernel: PositiveInt = Field(4, description="reference: 4")
    generator_stride: PositiveInt = Field(1, description="reference: 1; wav2vec-U 2.0: 3")
    generator_dropout: Probability = 0.1
    generator_batch_norm: Annotated[float, Field(ge=0)] = Field(
        0.0, description="initial weight of a batch norm on the input; 0: none; wav2vec-U 2.0: 30"
    )
    generator_residual: bool = Field(False, description="wav2vec-U 2.0: yes")
    discriminator_dim: PositiveInt = 384
    discriminator_depth: PositiveInt = 2
    discriminator_kernel: PositiveInt = 6
    gradient_penalty: Annotated[float, Field(ge=0)] = Field(1.5, description="λ; paper 1.5-2.0")
    smoothness: Annotated[float, Field(ge=0)] = Field(0.5, description="γ; paper 0.5-0.75")
    diversity: Annotated[float, Field(ge=0)] = Field(4.0, description="η; paper 2-4")
    generator_lr: PositiveFloat = 4e-4
    discriminator_lr: PositiveFloat = 5e-4
    discriminator_weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip_norm: PositiveFloat = 5.0
    batch_size: PositiveInt = Field(160, description="utterances; reference: 160")
    updates: PositiveInt = Field(150_000, description="generator and discriminator together")
    start_discriminator_updates: Annotated[int, Field(ge=0)] = Field(
        200,
        description="from a given generator: first updates, which train the discriminator alone, "
        "because one that knows nothing yet spoils what the generator knows (measured)",
    )
    checkpoint_every: PositiveInt = Field(1_000, description="updates; reference: 1,000")
    log_every: PositiveInt = Field(100, description="updates between two lines of the log")
    score_utterances: PositiveInt = Field(
        500, description="training utterances that every checkpoint is scored on without labels"
    )


class DeciphermentConfig(Settings):
    """Annealed expectation-maximisation over cluster codes under a phone n-gram model."""

    codes: PositiveInt = Field(200, description="k-means codes of the segment vectors (measured)")
    min_phone_share: Probability = Field(
        0.003, description="rarer phones are left out of the search: they attract wrong codes"
    )
    stay_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="that a segment goes on with the phone of the one before it"
    )
    start_sharpness: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="exponent of the emissions at the start: low is hot"
    )
    trigram_sharpness: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.4, 0.5, 0.64),
        min_length=1,
        description="exponents at which the trigram takes over from the bigram; restarts take them "
        "in turn, because what misleads one schedule does not mislead the next (measured)",
    )
    bigram_iterations: PositiveInt = 15
    trigram_iterations: PositiveInt = Field(40, description="up to sharpness 1 (measured)")
    final_iterations: PositiveInt = Field(
        60, description="at most, at sharpness 1; the search ends when it gains no more"
    )
    max_segments: PositiveInt = Field(
        20_000, description="segments (about 25 minutes of speech) used while annealing"
    )
    max_total_segments: PositiveInt = Field(
        150_000, description="segments used by the last iterations and to teach the generator"
    )
    generator_kernel: PositiveInt = Field(5, description="segments the generator sees at once")
    generator_hidden: PositiveInt = Field(256, description="hidden channels of the generator")
    generator_dropout: Probability = 0.2
    generator_epochs: PositiveInt = Field(
        10, description="few on purpose: the generator must smooth the posteriors, not copy them"
    )
    generator_lr: PositiveFloat = 2e-3


class MatchingConfig(Settings):
    """How the generator learns without labels."""

    method: Literal["decipherment", "gan", "decipherment+gan"] = Field(
        "decipherment", description="`decipherment+gan` starts the GAN from the decipherment"
    )
    seeds: PositiveInt = Field(3, description="independent restarts; the best is selected")
    seed: int = 0
    device: str = "auto"
    gan: GanConfig = GanConfig()
    decipherment: DeciphermentConfig = DeciphermentConfig()


class EvaluateConfig(Settings):
    """Error rates against references."""

    split: str = Field("test", description="split of the manifest that is reported")
    bootstrap_samples: PositiveInt = 1_000
    ceiling: bool = Field(True, description="also train the labelled ceiling (per_ceiling, gap)")
    seed: int = 0


class RunConfig(Settings):
    """Everything a run depends on, stage by stage."""

    language: str = Field("en", description="espeak voice, such as en-us, de, sw")
    threads: PositiveInt = Field(2, description="CPU threads for torch and the compiled loops")
    corpus: CorpusConfig = CorpusConfig()
    silence: SilenceConfig = SilenceConfig()
    features: FeaturesConfig = FeaturesConfig()
    segments: SegmentsConfig = SegmentsConfig()
    text: TextConfig = TextConfig()
    matching: MatchingConfig = MatchingConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


def load_config(path: Path | None = None, **overrides: Any) -> RunConfig:
    """Read a YAML file of settings.

    Parameters
    ----------
    path : Path or None
        YAML file with any subset of the keys of `RunConfig`; None means all defaults.
    **overrides
        Sections or values that replace the file's, nested as in the file.

    Raises
    ------
    UserError
        If the file is missing, is no YAML mapping, or has an unknown key or a value out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot read the settings ({error.strerror})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: is not valid YAML; check its indentation") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise UserError(f"{path}: must be a YAML mapping of settings, such as `language: de`")
        values = loaded or {}
    _merge(values, overrides)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path or 'settings'}: {key}: {first['msg']}") from error


def _merge(values: dict[str, Any], overrides: dict[str, Any]) -> None:
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value
