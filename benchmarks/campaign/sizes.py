"""The three sizes of the campaign."""

from __future__ import annotations

from dataclasses import dataclass

from wav2vec_u.config import (
    MaskedPredictionConfig,
    NetworkConfig,
    PretrainConfig,
    RunConfig,
    SilenceConfig,
    TargetRound,
)


@dataclass(frozen=True)
class Size:
    """How much is learned from how much.

    Attributes
    ----------
    config : RunConfig
    most_clips : int or None
        Recordings that are used; None: all.
    focus : RunConfig or None
        What goes on from the encoder of `config`, on the recordings of `FOCUS_CORPORA` alone.
    """

    config: RunConfig
    most_clips: int | None = None
    focus: RunConfig | None = None


# Seconds on one core: shows that all parts work together, and nothing else.
TEST = Size(
    RunConfig(
        threads=1,
        silence=SilenceConfig(method="none"),
        pretrain=PretrainConfig(
            network=NetworkConfig(
                mel_bands=40, dim=32, blocks=2, heads=2, feed_forward_dim=64, convolution_kernel=3
            ),
            rounds=(
                TargetRound(targets="mfcc", clusters=16, updates=60),
                TargetRound(targets=0, clusters=16, updates=60),
            ),
            batch_seconds=8.0,
            max_seconds=4.0,
            learning_rate=5e-3,
            validation_utterances=4,
            validate_every=20,
            checkpoint_every=20,
            log_every=20,
            device="cpu",
        ),
    ),
    most_clips=40,
)

# Single voices with an hour of speech each.
FOCUS_CORPORA = ("rhasspy_kathleen_en", "rhasspy_kerstin_de")

# Under two hours on two cores. The first round alone, on 59 languages and 2,700 voices, learns
# little that MFCC do not tell; clusters of few voices hold more of the phones (measured).
CPU = Size(
    RunConfig(
        pretrain=PretrainConfig(rounds=(TargetRound(targets="mfcc", clusters=200, updates=8_000),))
    ),
    focus=RunConfig(
        pretrain=PretrainConfig(
            rounds=(
                TargetRound(targets=3, clusters=200, updates=3_500),
                TargetRound(targets=4, clusters=300, updates=2_700),
            )
        )
    ),
)

# About 25 minutes on one H100-class GPU, of which the updates are meant to take 16: 22 million
# parameters see the data a hundred times. Steps of 20 ms, not 40: here they cost little, and frames
# at 50 Hz need no second reading then. Masks cover the same share of time as those of the defaults,
# in spans of the same length. The blocks that are clustered stand a little above the middle, as in
# HuBERT (6 and 9 of 12). Estimated, not tuned.
GPU = Size(
    RunConfig(
        threads=16,
        pretrain=PretrainConfig(
            network=NetworkConfig(
                mel_bands=80,
                stack=2,
                dim=384,
                blocks=10,
                heads=6,
                feed_forward_dim=1_536,
                convolution_kernel=15,
                dropout=0.1,
                layer_drop=0.05,
            ),
            masked_prediction=MaskedPredictionConfig(unmasked_weight=0.1),
            rounds=(
                TargetRound(targets="mfcc", clusters=200, updates=4_000),
                TargetRound(targets=5, clusters=500, updates=5_000),
                TargetRound(targets=6, clusters=500, updates=7_000),
            ),
            mask_probability=0.065,
            mask_length=6,
            batch_seconds=300.0,
            max_seconds=15.0,
            learning_rate=1e-3,
            warmup=0.08,
            precision="bfloat16",
            validate_every=1_000,
            checkpoint_every=500,
            log_every=100,
        ),
    )
)

SIZES = {"test": TEST, "cpu": CPU, "gpu": GPU}
