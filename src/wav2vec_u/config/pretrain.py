"""Settings of an encoder of our own: its shape, and how it is trained from audio alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from wav2vec_u.config.base import PositiveFloat, PositiveInt, Probability, Seed, Settings


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
        0.3, description="of a step that is not masked; paper: 0"
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
    masked_prediction: MaskedPredictionConfig = MaskedPredictionConfig()
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
    seed: Seed = 0
