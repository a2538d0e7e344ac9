"""Settings of the search for a map from segments to phones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wav2vec_u.config.base import (
    PositiveFloat,
    PositiveInt,
    Probability,
    Rates,
    Seed,
    Settings,
    Weights,
)


class GanConfig(Settings):
    """The paper's objective (section 4); numbers of the reference `w2vu.yaml`.

    Where several weights or rates are given, members take all combinations in turn.
    """

    reference: bool = Field(
        False, description="behave as the reference code does, its quirks included"
    )
    objective: Literal["paper", "relativistic", "statistics"] = Field(
        "paper",
        description="relativistic needs a gradient_penalty of about 0.05 (measured); statistics "
        "does without a discriminator",
    )
    warm_up_updates: Annotated[int, Field(ge=0)] = Field(
        0, description="first updates, in which generators match the text's statistics alone"
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
    positions: Weights = Field(
        (1.0, 4.0),
        description="of how far the phones of first and last steps are from those of the text; "
        "paper: 0 (measured)",
    )
    auxiliary: Weights = Field(
        (0.0,),
        description="of telling the MFCC cluster of a segment from the residual layer; "
        "wav2vec-U 2.0: 0.3 and 0.5",
    )
    auxiliary_codes: PositiveInt = Field(64, description="clusters; wav2vec-U 2.0: 64")
    generator_lr: Rates = (4e-4,)
    discriminator_lr: Rates = (5e-4,)
    discriminator_weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip_norm: PositiveFloat = 5.0
    batch_size: PositiveInt = Field(160, description="utterances; reference: 160")
    updates: PositiveInt = Field(150_000, description="generator and discriminator together")
    start_discriminator_updates: Annotated[int, Field(ge=0)] = Field(
        200,
        description="from a given generator, after the warm-up and after a reset: updates of the "
        "discriminator alone, because one that knows nothing yet spoils what the generator knows "
        "(measured)",
    )
    discriminator_reset_every: Annotated[int, Field(ge=0)] = Field(
        0, description="updates after which all discriminators begin anew; 0: never"
    )
    replay: Probability = Field(
        0.0,
        description="share of the discriminators' updates in which they hear earlier generators",
    )
    replay_every: PositiveInt = Field(
        200, description="updates between two generators that are kept for the replay"
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

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> GanConfig:
        statistics = any(self.skipgrams) or any(self.positions)
        if (self.objective == "statistics" or self.warm_up_updates) and not statistics:
            raise ValueError("without skipgrams and positions there are no statistics to match")
        if any(self.auxiliary) and not self.generator_residual:
            raise ValueError("auxiliary is of the residual layer; set generator_residual: true")
        if any(self.auxiliary) and self.segmenter not in ("none", "join"):
            raise ValueError("auxiliary needs whole segments; set segmenter to none or join")
        alone = self.start_discriminator_updates
        if 0 < self.discriminator_reset_every <= alone:
            raise ValueError(
                "discriminator_reset_every must be more than start_discriminator_updates, or the "
                "generators never learn"
            )
        changed = self.objective != "paper" or any(self.auxiliary) or self.replay > 0
        changed = changed or self.warm_up_updates > 0 or self.discriminator_reset_every > 0
        if self.reference and changed:
            raise ValueError("the published code knows the paper's objective alone")
        return self


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
        (0.4, 0.64, 0.5),
        min_length=1,
        description="exponents at which the trigram takes over from the bigram; restarts take them "
        "in turn, because what misleads one schedule does not mislead the next (measured)",
    )
    bigram_iterations: PositiveInt = 15
    trigram_iterations: PositiveInt = Field(40, description="up to sharpness 1 (measured)")
    final_iterations: PositiveInt = Field(
        60, description="at most, at sharpness 1; the search ends when it gains no more"
    )
    reheats: Annotated[int, Field(ge=0)] = Field(
        3,
        description="times, at most, that the search is warmed up again, for as long as that helps",
    )
    reheat_sharpness: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="to which it is warmed up: what is surely read stays (measured)"
    )
    reheat_iterations: PositiveInt = Field(15, description="up to sharpness 1 again (measured)")
    max_segments: PositiveInt = Field(
        20_000, description="segments (about 25 minutes of speech) used while annealing"
    )
    max_total_segments: PositiveInt = Field(
        150_000, description="segments used by the last iterations and to teach the generator"
    )
    generator_kernel: PositiveInt = Field(5, description="segments the generator sees at once")
    generator_hidden: PositiveInt = Field(256, description="hidden channels of the generator")
    generator_dropout: Probability = 0.2
    generator_epochs: PositiveInt = Field(10, description="through the segments that were read")
    generator_least_updates: PositiveInt = Field(
        1_000, description="however few the segments; fewer leave it behind the reading (measured)"
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
        "cluster codes, which needs no voice of the language; `decipherment+gan` starts every "
        "second member of the GAN from the decipherment",
    )
    seeds: PositiveInt = Field(2, description="independent restarts; the best is selected")
    seed: Seed = 0
    device: str = "auto"
    gan: GanConfig = GanConfig()
    decipherment: DeciphermentConfig = DeciphermentConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
