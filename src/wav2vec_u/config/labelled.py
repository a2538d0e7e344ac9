"""Settings of what may see transcripts: evaluation, fine-tuning, probes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wav2vec_u.config.base import PositiveFloat, PositiveInt, Probability, Seed, Settings


class EvaluateConfig(Settings):
    """Error rates against references."""

    split: str = Field("test", description="split of the manifest that is reported")
    bootstrap_samples: PositiveInt = 1_000
    ceiling: bool = Field(True, description="also train the labelled ceiling (per_ceiling, gap)")
    seed: Seed = 0


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
    updates: PositiveInt = Field(1_500, description="paper: 12,000 (10 minutes) to 320,000 (960 h)")
    batch_seconds: PositiveFloat = Field(
        24.0, description="audio in one length-bucketed batch (measured); paper: 1,600"
    )
    learning_rate: PositiveFloat | None = Field(
        None,
        description="null: 5e-4 for encoders of our own (measured), 5e-5 for published ones, which "
        "are far wider; paper: 2e-5 to 1e-4",
    )
    linear_learning_rate: PositiveFloat | None = Field(
        None,
        description="of the linear layer, which begins from nothing; null: four times that of all "
        "others for encoders of our own, the same for published ones",
    )
    warm_up_share: Probability = Field(0.1, description="of the updates; paper: 0.1")
    hold_share: Probability = Field(0.4, description="of the updates, then it decays; paper: 0.4")
    freeze_updates: Annotated[int, Field(ge=0)] = Field(
        100, description="first updates, which train the linear layer alone; paper: 10,000"
    )
    freeze_front_end: bool = Field(True, description="never train the convolutions; paper: yes")
    clip_norm: PositiveFloat = 1.0
    dropout: Probability = Field(0.2, description="in front of the linear layer")
    layer_drop: Probability = Field(0.05, description="reference: 0.05 to 0.1")
    time_mask_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="share of steps that are masked; paper: 0.40 (960 h) to 0.54 (10 minutes)"
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
    seed: Seed = 0

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
    seed: Seed = 0
