"""Settings of what comes after matching: words, self-training, the encoder's fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wav2vec_u.config.base import PositiveFloat, PositiveInt, Probability, Seed, Settings


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
    silence_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="of a pause between two words"
    )
    seed: Seed = 0


class FrameRoundsConfig(Settings):
    """Rounds that read the frames of segments, once rounds on the segments have labelled them."""

    rounds: Annotated[int, Field(ge=0)] = Field(3, description="at most")
    kernel: PositiveInt = Field(9, description="frames that their generators see at once")
    hidden: PositiveInt = Field(256, description="channels of the hidden layer")
    dropout: Probability = 0.3


class SegmentReadingConfig(Settings):
    """How segments are read that are about as long as phones."""

    generator_power: Annotated[float, Field(gt=0, le=1)] = 1.0
    stay_probability: Annotated[float, Field(gt=0, lt=1)] = 0.2
    mixture_context: Annotated[int, Field(ge=0)] = 1
    scale: Annotated[float, Field(gt=0, le=2)] = 1.0


class SelftrainConfig(Settings):
    """Rounds in which what is understood of the recordings teaches the next model."""

    method: Literal["rounds", "none"] = Field("rounds", description="or leave it at the matching")
    rounds: Annotated[int, Field(ge=0)] = Field(
        12, description="at most; they end when the likelihood gain no longer rises"
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
    segments: SegmentReadingConfig = SegmentReadingConfig()
    frames: FrameRoundsConfig = FrameRoundsConfig()
    seed: Seed = 0

    def of_segments(self) -> SelftrainConfig:
        """Return the settings of rounds that read segments which are not frames."""
        return self.model_copy(update=dict(self.segments))

    def of_frames(self) -> SelftrainConfig:
        """Return the settings of the rounds after those, which read the frames of the segments."""
        return self.model_copy(update={"rounds": self.frames.rounds})


class WordsConfig(Settings):
    """The search for words in all recordings."""

    beam: PositiveFloat = Field(9.0, description="nats; widened where every path was lost")
    lattice_beam: PositiveFloat = Field(
        9.0, description="nats, up to which other words count beside the best ones"
    )
    max_active: PositiveInt = Field(
        4000, description="states that are followed at once, however wide the beam"
    )
    word_cost: Literal["auto"] | Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="nats that every word costs, against many short ones; `auto`: what makes words "
        "as long in phones as those of the text (measured: helps one voice of two)",
    )
    scale: Literal["auto"] | Annotated[float, Field(gt=0, le=2)] = Field(
        0.7,
        description="factor on the likelihoods: the lower, the more the word model counts "
        "(measured); `auto`: where two models that err elsewhere find the same words most often",
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
    learning_rate: PositiveFloat | None = Field(
        None, description="null: as `finetune.learning_rate`"
    )
    linear_learning_rate: PositiveFloat | None = Field(
        None, description="null: as `finetune.linear_learning_rate`"
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
    seed: Seed = 0
