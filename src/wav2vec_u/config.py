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
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from wav2vec_u.runtime.errors import UserError

SAMPLE_RATE = 16_000  # Hz; what every published speech encoder expects

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _as_tuple(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else (value,)


# One number is as good as a list with one number.
Weights = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1), BeforeValidator(_as_tuple)
]
Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1), BeforeValidator(_as_tuple)]


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


class NetworkConfig(Settings):
    """Shape of an encoder of our own."""

    front_end: Literal["log_mel", "waveform"] = Field(
        "log_mel",
        description="`waveform`: the convolutions of wav2vec 2.0; `log_mel`: fixed, for budgets "
        "of hours on a CPU",
    )
    mel_bands: PositiveInt = 64
    stack: PositiveInt = Field(4, description="log-mel frames of 10 ms in one step")
    conv_channels: PositiveInt = Field(512, description="of the waveform front end; paper: 512")
    context: Literal["conformer", "transformer"] = Field(
        "conformer", description="`transformer`: that of wav2vec 2.0; `conformer` learns faster"
    )
    dim: PositiveInt = Field(192, description="width of the context network; paper: 768 (BASE)")
    blocks: PositiveInt = Field(6, description="paper: 12 (BASE)")
    heads: PositiveInt = Field(4, description="paper: 8 (BASE)")
    feed_forward_dim: PositiveInt = Field(768, description="paper: 3,072 (BASE)")
    convolution_kernel: PositiveInt = Field(7, description="steps; odd; of the Conformer")
    position_kernel: PositiveInt = Field(
        128,
        description="steps seen by the Transformer's convolution that encodes positions; "
        "paper: 128",
    )
    position_groups: PositiveInt = Field(16, description="of that convolution; paper: 16")
    dropout: Probability = Field(
        0.0, description="paper: 0.1 (BASE); short training does not overfit"
    )
    layer_drop: Probability = Field(0.0, description="paper: 0.05 (BASE)")


class ContrastiveConfig(Settings):
    """wav2vec 2.0's objective (its sections 2, 3.2 and 4.2)."""

    codebooks: PositiveInt = Field(2, description="G; paper: 2")
    codes: Annotated[int, Field(ge=2)] = Field(320, description="V, of a codebook; paper: 320")
    entry_dim: PositiveInt = Field(128, description="numbers of a code; paper: 128 (BASE)")
    projection_dim: PositiveInt = Field(
        256, description="where context and codes are compared; paper: 256 (BASE)"
    )
    distractors: PositiveInt = Field(100, description="K; paper: 100")
    similarity_temperature: PositiveFloat = Field(0.1, description="κ; paper: 0.1")
    diversity_weight: Annotated[float, Field(ge=0)] = Field(0.1, description="α; paper: 0.1")
    diversity_form: Literal["perplexity", "entropy"] = Field(
        "perplexity",
        description="`perplexity`: exp H in the place of H, as the published code; `entropy`: "
        "equation 4 as printed",
    )
    feature_penalty: Annotated[float, Field(ge=0)] = Field(
        10.0, description="on the output of a front end that learns; reference: 10"
    )
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="before the quantizer; paper: 0.1"
    )
    start_temperature: PositiveFloat = Field(2.0, description="of the Gumbel softmax; paper: 2")
    end_temperature: PositiveFloat = Field(
        0.5, description="reached by equal factors at the last update; paper: 0.5 (BASE)"
    )


class MaskedPredictionConfig(Settings):
    """HuBERT's objective (Hsu et al. 2021, section II)."""

    projection_dim: PositiveInt = Field(
        256, description="where context and clusters are compared; paper: 256 (BASE)"
    )
    similarity_temperature: PositiveFloat = Field(0.1, description="τ; paper: 0.1")
    unmasked_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="of a step that is not masked; paper: 0"
    )
    feature_penalty: Annotated[float, Field(ge=0)] = Field(
        10.0, description="on the output of a front end that learns; reference: 10"
    )


class TargetRound(Settings):
    """One round of masked prediction: what is predicted, and for how long."""

    targets: Literal["mfcc"] | Annotated[int, Field(ge=0)] = Field(
        "mfcc", description="what is clustered: `mfcc`, or a block of the network as it stands"
    )
    clusters: Annotated[int, Field(ge=2, le=32_000)] = Field(200, description="HuBERT: 100, 500")
    updates: PositiveInt = Field(8_000, description="HuBERT: 250,000 and 400,000")


class ScriptConfig(Settings):
    """A text, and the voices that read it."""

    file: Path = Field(description="UTF-8 text, a sentence a line, or a folder of such .txt files")
    voices: tuple[str, ...] = Field(
        ("latin",),
        min_length=1,
        description="espeak-ng voices, such as en-us; `latin`: 46 that read Latin letters",
    )
    share: PositiveFloat = Field(1.0, description="of what is said, relative to the other texts")


class SpokenConfig(Settings):
    """Synthetic speech beside the recordings: its phones are known, and nobody transcribed them."""

    scripts: tuple[ScriptConfig, ...] = Field((), description="none: no synthetic speech")
    hours: PositiveFloat = 10.0
    weight: PositiveFloat = Field(1.0, description="of its loss")
    mask_probability: Probability = Field(0.06, description="that a step starts a span")
    min_phone_share: Probability = Field(
        3e-4, description="frames of phones rarer than this are not asked for"
    )


class PretrainConfig(Settings):
    """Pre-training of an encoder from audio alone, and from synthetic speech where it is given."""

    objective: Literal["masked_prediction", "contrastive"] = Field(
        "masked_prediction",
        description="HuBERT's, which learns from tens of hours, or wav2vec 2.0's",
    )
    network: NetworkConfig = NetworkConfig()
    added_blocks: Annotated[int, Field(ge=0)] = Field(
        0, description="on top of those of the encoder to start from; they begin as the identity"
    )
    masked_prediction: MaskedPredictionConfig = MaskedPredictionConfig(unmasked_weight=0.3)
    contrastive: ContrastiveConfig = ContrastiveConfig()
    spoken: SpokenConfig = SpokenConfig()
    rounds: tuple[TargetRound, ...] = Field(
        (
            TargetRound(targets="mfcc", clusters=200),
            TargetRound(targets=3, clusters=300),
            TargetRound(targets=4, clusters=500),
        ),
        min_length=1,
        description="one after the other, each from the network of the one before; the contrastive "
        "objective uses their updates alone",
    )
    mask_probability: Probability = Field(
        0.12, description="that a step starts a span; paper: 0.065"
    )
    mask_length: PositiveInt = Field(3, description="steps in a span (120 ms); paper: 10 (200 ms)")
    batch_seconds: PositiveFloat = Field(16.0, description="of audio; paper: 5,600 (BASE)")
    max_seconds: PositiveFloat = Field(10.0, description="longer utterances are cropped at random")
    min_seconds: PositiveFloat = Field(0.5, description="shorter utterances are left out")
    accumulate: PositiveInt = Field(1, description="batches whose gradients make one update")
    learning_rate: PositiveFloat = Field(1.5e-3, description="paper: 5e-4 (BASE)")
    warmup: Probability = Field(0.03, description="share of a round's updates; paper: 0.08")
    decay: Probability = Field(0.3, description="share of a round's updates, at its end")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="paper: 0.01")
    clip_norm: PositiveFloat = Field(1.0, description="of the gradient")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="`bfloat16` halves the time on a GPU"
    )
    validation_utterances: PositiveInt = Field(100, description="held out, at most a tenth of all")
    validate_every: PositiveInt = Field(1_000, description="updates")
    checkpoint_every: PositiveInt = Field(500, description="updates")
    log_every: PositiveInt = Field(50, description="updates")
    device: str = "auto"
    seed: int = 0


class SegmentsConfig(Settings):
    """Segments from frames."""

    boundaries: Literal["frames", "viterbi", "clusters"] = Field(
        "frames",
        description="none: every frame is a segment (wav2vec-U 2.0); or a duration-penalised "
        "Viterbi path over k-means clusters whose penalty is found so that the rate hits "
        "`target_rate_hz`; or runs of equal cluster (paper)",
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
    """The paper's objective (section 4); numbers of the reference `w2vu.yaml`.

    Where several weights or rates are given, members take all combinations in turn.
    """

    reference: bool = Field(
        False, description="behave as the reference code does, its quirks included"
    )
    objective: Literal["paper", "relativistic"] = Field(
        "paper", description="relativistic needs a gradient_penalty of about 0.05 (measured)"
    )
    segmenter: Literal["none", "random", "uniform", "uniform_join", "join"] = "join"
    segmenter_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="share of steps that random and uniform keep; reference: 0.25"
    )
    generator_kernel: PositiveInt = Field(4, description="reference: 4")
    generator_stride: PositiveInt = Field(1, description="reference: 1; wav2vec-U 2.0: 3")
    generator_hidden: Annotated[int, Field(ge=0)] = Field(
        0, description="channels of a hidden layer, for features that are weaker; 0, paper: none"
    )
    generator_dropout: Probability = 0.1
    generator_batch_norm: Annotated[float, Field(ge=0)] = Field(
        0.0, description="initial weight of a batch norm on the input; 0: none; wav2vec-U 2.0: 30"
    )
    generator_residual: bool = Field(False, description="wav2vec-U 2.0: yes")
    discriminator_dim: PositiveInt = 384
    discriminator_depth: PositiveInt = 2
    discriminator_kernel: PositiveInt = 6
    gradient_penalty: Weights = Field((1.5,), description="λ; paper 1.5 and 2")
    smoothness: Weights = Field((0.5,), description="γ; paper 0.5 and 0.75")
    diversity: Weights = Field((4.0,), description="η; paper 2 and 4")
    skipgrams: Weights = Field(
        (4.0, 16.0),
        description="of how far pairs of phones are from those of the text; paper: 0 (measured)",
    )
    generator_lr: Rates = (4e-4,)
    discriminator_lr: Rates = (5e-4,)
    discriminator_weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip_norm: PositiveFloat = 5.0
    batch_size: PositiveInt = Field(160, description="utterances; reference: 160")
    updates: PositiveInt = Field(150_000, description="generator and discriminator together")
    start_discriminator_updates: Annotated[int, Field(ge=0)] = Field(
        200,
        description="from a given generator: first updates, which train the discriminator alone, "
        "because one that knows nothing yet spoils what the generator knows (measured)",
    )
    reviews: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.25, 0.5),
        description="shares of the updates after which the worse half of the members gives way to "
        "new ones, but for those that have taken off; none: ()",
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        30, description="checkpoints without improvement that end the training; 0: never"
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


class SyntheticConfig(Settings):
    """Learning from the text read aloud, then from what is understood of the recordings."""

    hours: PositiveFloat = Field(1.5, description="of synthetic speech")
    rounds: Annotated[int, Field(ge=0)] = Field(
        3, description="of learning from the recordings, each from the labels of the one before"
    )
    min_phone_share: Probability = Field(0.002, description="rarer phones are not recognised")
    power: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="exponent of the likelihoods, since neighbouring frames overlap"
    )
    stay_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.6, description="that a segment goes on with the phone of the one before it"
    )
    sure: Probability = Field(
        0.9, description="posterior above which the best phone becomes a label of the next round"
    )
    synthetic_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="of the synthetic speech, heard beside the recordings in every round"
    )
    max_hours: PositiveFloat = Field(5.0, description="of recordings that are learned from")
    generator_kernel: PositiveInt = Field(7, description="segments the generator sees at once")
    generator_hidden: PositiveInt = Field(256, description="hidden channels of the generator")
    generator_dropout: Probability = 0.3
    start_epochs: PositiveInt = Field(8, description="through the synthetic speech alone")
    epochs: PositiveInt = Field(5, description="of every later round")
    learning_rate: PositiveFloat = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05


class MatchingConfig(Settings):
    """How the generator learns without labels."""

    method: Literal["synthetic", "decipherment", "gan", "decipherment+gan"] = Field(
        "synthetic",
        description="`synthetic` starts from the text read aloud by espeak-ng, `decipherment` from "
        "cluster codes, which needs no voice of the language; `decipherment+gan` starts the GAN "
        "from the decipherment",
    )
    seeds: PositiveInt = Field(2, description="independent restarts; the best is selected")
    seed: int = 0
    device: str = "auto"
    gan: GanConfig = GanConfig()
    decipherment: DeciphermentConfig = DeciphermentConfig()
    synthetic: SyntheticConfig = SyntheticConfig()


class GraphConfig(Settings):
    """The decoding graph: a lexicon and a word n-gram model of the text."""

    method: Literal["graph", "none"] = Field(
        "graph", description="a decoding graph, where the extra `decode` is installed; or no words"
    )
    ngram_order: Annotated[int, Field(ge=2, le=4)] = Field(3, description="of the word model")
    max_words: PositiveInt = Field(
        1_000_000, description="of the text that the word model is estimated from, at random"
    )
    ngram_prune: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (),
        description="for the orders 2, 3, ...: n-grams that occur no more often are left out, but "
        "for those that longer ones need; smaller graphs",
    )
    fragments: Annotated[int, Field(ge=0)] = Field(
        1_500, description="phone sequences of which unknown words are put together; 0: none"
    )
    stay_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.6, description="that a segment goes on with the phone of the one before it"
    )
    silence_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="of a pause between two words"
    )
    seed: int = 0


class SelftrainConfig(Settings):
    """Rounds in which what is understood of the recordings teaches the next model."""

    method: Literal["rounds", "none"] = Field("rounds", description="or leave it at the matching")
    rounds: Annotated[int, Field(ge=0)] = Field(
        8, description="at most; they end when the likelihood gain no longer rises"
    )
    generator_power: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="exponent of the generator's likelihoods beside the mixtures'"
    )
    mixture_power: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="exponent of the mixtures' likelihoods, which are far more extreme"
    )
    stay_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.6, description="that a segment goes on with the phone of the one before it"
    )
    min_phone_share: Probability = Field(
        0.002,
        description="rarer phones are not recognised, where the matching has not said which are",
    )
    mixture_context: Annotated[int, Field(ge=0)] = Field(
        3, description="segments before and after that the mixtures see"
    )
    mixture_dim: PositiveInt = Field(40, description="after discriminant analysis; Kaldi: 40")
    mixture_components: PositiveInt = Field(8, description="Gaussians a phone")
    sure: Probability = Field(
        0.9, description="posterior above which a phone becomes a label, where no words are found"
    )
    word_sure: Probability = Field(
        0.5,
        description="posterior, given all possible words with costs halved, above which a phone "
        "becomes a label",
    )
    synthetic_share: Probability = Field(
        0.5, description="of the synthetic speech, heard beside the recordings, if there is any"
    )
    max_hours: PositiveFloat = Field(5.0, description="of recordings that are learned from")
    epochs: PositiveInt = Field(5, description="of every round")
    learning_rate: PositiveFloat = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    beam: PositiveFloat = Field(9.0, description="of the search for words, nats")
    lattice_beam: PositiveFloat = Field(9.0, description="of what counts beside the best words")
    max_active: PositiveInt = Field(4000, description="states followed at once, however wide")
    word_cost: Annotated[float, Field(ge=0)] = Field(
        0.0, description="nats that every word costs in that search, against many short ones"
    )
    scale: Annotated[float, Field(gt=0, le=2)] = Field(
        0.7, description="factor on the likelihoods in that search (measured)"
    )
    seed: int = 0


class WordsConfig(Settings):
    """The search for words in all recordings."""

    beam: PositiveFloat = Field(9.0, description="nats; widened where every path was lost")
    lattice_beam: PositiveFloat = Field(
        9.0, description="nats, up to which other words count beside the best ones"
    )
    max_active: PositiveInt = Field(
        4000, description="states that are followed at once, however wide the beam"
    )
    word_cost: Annotated[float, Field(ge=0)] = Field(
        0.0, description="nats that every word costs, against many short ones"
    )
    scale: Annotated[float, Field(gt=0, le=2)] = Field(
        0.7,
        description="factor on the likelihoods: the lower, the more the word model counts "
        "(measured)",
    )


class AdaptConfig(Settings):
    """Fine-tuning of the encoder on what was understood of the recordings."""

    method: Literal["auto", "encoder", "none"] = Field(
        "auto",
        description="`encoder` fine-tunes it, `none` leaves it alone, `auto` leaves published ones "
        "alone where there is no GPU",
    )
    rounds: PositiveInt = Field(
        1, description="at most; they end when a network does not help its teacher"
    )
    epochs: PositiveFloat = Field(14.0, description="through the recordings, at least 100 updates")
    batch_seconds: PositiveFloat = Field(24.0, description="audio in one batch")
    learning_rate: PositiveFloat = Field(
        5e-4, description="paper: 2e-5 to 1e-4, for far wider nets"
    )
    linear_learning_rate: PositiveFloat = Field(
        2e-3, description="of the linear layer, which begins from nothing"
    )
    dropout: Probability = Field(0.2, description="in front of the linear layer")
    time_mask_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="share of steps that are masked"
    )
    min_confidence: Probability = Field(
        0.1, description="of a word, below which it counts as unknown what was said"
    )
    power: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="exponent of the network's likelihoods beside its teacher's"
    )
    teacher_weight: Annotated[float, Field(ge=0)] = Field(
        0.5, description="factor on the log-likelihoods of the model of self-training"
    )
    max_hours: PositiveFloat = Field(5.0, description="of recordings that are learned from")
    device: str = "auto"
    seed: int = 0


class EvaluateConfig(Settings):
    """Error rates against references."""

    split: str = Field("test", description="split of the manifest that is reported")
    bootstrap_samples: PositiveInt = 1_000
    ceiling: bool = Field(True, description="also train the labelled ceiling (per_ceiling, gap)")
    seed: int = 0


class FinetuneConfig(Settings):
    """Supervised training of an encoder by CTC; paper: wav2vec 2.0, section 4.3 and appendix B."""

    units: Literal["phones", "letters"] = Field("phones", description="what the model writes")
    min_symbol_count: PositiveInt = Field(
        2, description="rarer symbols are no units, and utterances with one are left out"
    )
    outputs_per_step: PositiveInt | None = Field(
        None, description="null: 2 for encoders of fewer than 40 steps a second, else 1"
    )
    max_utterance_seconds: PositiveFloat = Field(30.0, description="longer ones are left out")
    validation_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="of the labelled utterances, held out to choose the best checkpoint"
    )
    max_validation_utterances: PositiveInt = 200
    updates: PositiveInt = Field(4_000, description="paper: 12,000 (10 minutes) to 320,000 (960 h)")
    batch_seconds: PositiveFloat = Field(
        100.0, description="audio in one length-bucketed batch; paper: 1,600"
    )
    learning_rate: PositiveFloat = Field(
        3e-4, description="paper: 2e-5 to 1e-4, for far wider nets"
    )
    linear_learning_rate: PositiveFloat | None = Field(
        None, description="of the linear layer, which begins from nothing; null: as all others"
    )
    warm_up_share: Probability = Field(0.1, description="of the updates; paper: 0.1")
    hold_share: Probability = Field(0.4, description="of the updates, then it decays; paper: 0.4")
    freeze_updates: Annotated[int, Field(ge=0)] = Field(
        400, description="first updates, which train the linear layer alone; paper: 10,000"
    )
    freeze_front_end: bool = Field(True, description="never train the convolutions; paper: yes")
    clip_norm: PositiveFloat = 1.0
    dropout: Probability = Field(0.1, description="in front of the linear layer")
    layer_drop: Probability = Field(0.05, description="reference: 0.05 to 0.1")
    time_mask_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.4, description="share of steps that are masked; paper: 0.40 (960 h) to 0.54 (10 minutes)"
    )
    time_mask_seconds: PositiveFloat = Field(0.2, description="one span; paper: 10 steps of 20 ms")
    channel_mask_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="share of channels that are set to 0; paper: 0.10 (960 h) to 0.40"
    )
    channel_mask_width: Annotated[float, Field(gt=0, le=1)] = Field(
        0.083, description="one span, as a share of all channels; paper: 64 of 768"
    )
    validate_every: PositiveInt = Field(200, description="updates; a checkpoint is kept as often")
    bootstrap_samples: PositiveInt = Field(1_000, description="for the interval of the error rate")
    device: str = "auto"
    seed: int = 0

    @property
    def linear_rate(self) -> float:
        """Learning rate of the linear layer."""
        return self.linear_learning_rate or self.learning_rate

    @model_validator(mode="after")
    def _leaves_updates_to_decay(self) -> FinetuneConfig:
        if self.warm_up_share + self.hold_share >= 1:
            raise ValueError("warm_up_share and hold_share must be less than 1 together")
        return self


class ProbeConfig(Settings):
    """Linear probes of an encoder's blocks; paper: wav2vec-U, section 3.1 and figure 2."""

    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, description="0-based blocks to probe; null: all"
    )
    test_split: str = Field("test", description="split that is reported")
    max_train_hours: PositiveFloat = Field(1.5, description="labelled speech that is used, at most")
    max_test_hours: PositiveFloat = 0.5
    max_utterance_seconds: PositiveFloat = Field(30.0, description="longer ones are left out")
    batch_seconds: PositiveFloat = Field(60.0, description="audio in one batch for the encoder")
    label_free: bool = Field(True, description="also choose a layer without labels, and compare")
    label_free_minutes: PositiveFloat = Field(30.0, description="speech used for that, at most")
    clusters: Annotated[int, Field(ge=2)] = Field(100, description="codes of its clusterings")
    ngram_order: Annotated[int, Field(ge=2, le=4)] = Field(3, description="of its code model")
    bootstrap_samples: PositiveInt = Field(1_000, description="for the intervals of error rates")
    device: str = "auto"
    seed: int = 0


class RunConfig(Settings):
    """Everything a run depends on, stage by stage."""

    language: str = Field("en", description="espeak voice, such as en-us, de, sw")
    threads: PositiveInt = Field(2, description="CPU threads for torch and the compiled loops")
    corpus: CorpusConfig = CorpusConfig()
    silence: SilenceConfig = SilenceConfig()
    pretrain: PretrainConfig = PretrainConfig()
    features: FeaturesConfig = FeaturesConfig()
    segments: SegmentsConfig = SegmentsConfig()
    text: TextConfig = TextConfig()
    matching: MatchingConfig = MatchingConfig()
    graph: GraphConfig = GraphConfig()
    selftrain: SelftrainConfig = SelftrainConfig()
    words: WordsConfig = WordsConfig()
    adapt: AdaptConfig = AdaptConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    probe: ProbeConfig = ProbeConfig()


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
