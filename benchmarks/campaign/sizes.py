"""The three sizes of the campaign."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wav2vec_u.config import (
    MaskedPredictionConfig,
    NetworkConfig,
    PretrainConfig,
    RunConfig,
    ScriptConfig,
    SilenceConfig,
    SpokenConfig,
    TargetRound,
)
from wav2vec_u.runtime.errors import UserError


@dataclass(frozen=True)
class Step:
    """A pre-training; each but the first goes on from the encoder of the one before.

    Attributes
    ----------
    config : RunConfig
    corpora : tuple of str or None
        Whose recordings are heard; None: all.
    """

    config: RunConfig
    corpora: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Size:
    """How much is learned from how much.

    Attributes
    ----------
    steps : tuple of Step
        One after the other.
    most_clips : int or None
        Recordings that are used; None: all.
    """

    steps: tuple[Step, ...]
    most_clips: int | None = None


# Seconds on one core: shows that all parts work together, and nothing else.
_TEST_PRETRAIN = PretrainConfig(
    network=NetworkConfig(
        mel_bands=40, dim=32, blocks=2, heads=2, feed_forward_dim=64, convolution_kernel=3
    ),
    rounds=(
        TargetRound(targets="mfcc", clusters=16, updates=60),
        TargetRound(targets=0, clusters=16, updates=60),
    ),
    spoken=SpokenConfig(hours=0.02),
    batch_seconds=8.0,
    max_seconds=4.0,
    learning_rate=5e-3,
    validation_utterances=4,
    validate_every=20,
    checkpoint_every=20,
    log_every=20,
    device="cpu",
)
_TEST_DEEPER = _TEST_PRETRAIN.model_copy(
    update={"rounds": (TargetRound(targets=1, clusters=16, updates=40),), "added_blocks": 1}
)
_TEST = RunConfig(threads=1, silence=SilenceConfig(method="none"), pretrain=_TEST_PRETRAIN)
TEST = Size((Step(_TEST), Step(_TEST.model_copy(update={"pretrain": _TEST_DEEPER}))), most_clips=40)

# Single voices with an hour of speech each.
FOCUS_CORPORA = ("rhasspy_kathleen_en", "rhasspy_kerstin_de")

# About two hours on two cores, with synthetic speech beside the recordings (`with_speech`). With it
# the last block (5) probed best after ten minutes, and the one before it after the third round.
CPU = Size(
    (
        Step(
            RunConfig(
                pretrain=PretrainConfig(
                    rounds=(
                        TargetRound(targets="mfcc", clusters=200, updates=5_000),
                        TargetRound(targets=5, clusters=300, updates=6_000),
                    ),
                    spoken=SpokenConfig(hours=15.0),
                )
            )
        ),
        Step(
            RunConfig(
                pretrain=PretrainConfig(
                    rounds=(
                        TargetRound(targets=5, clusters=300, updates=5_000),
                        TargetRound(targets=4, clusters=500, updates=6_000),
                    ),
                    spoken=SpokenConfig(hours=6.0),
                )
            ),
            FOCUS_CORPORA,
        ),
    )
)

# About 25 minutes on one H100-class GPU, of which the updates are meant to take 16: 22 million
# parameters see the data a hundred times. Steps of 20 ms, not 40: here they cost little, and frames
# at 50 Hz need no second reading then. Masks cover the same share of time as those of the defaults,
# in spans of the same length. The blocks that are clustered stand a little above the middle, as in
# HuBERT (6 and 9 of 12). Estimated, not tuned.
_GPU = RunConfig(
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
GPU = Size((Step(_GPU),))

# Who reads a text in its own language; every text is also read by the `latin` voices.
READERS = {
    "en": ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-029"),
    "de": ("de",),
    "fr": ("fr", "fr-be"),
}


def with_speech(config: RunConfig, texts: Path) -> RunConfig:
    """Add synthetic speech of all texts of a folder, half of it in their own languages.

    Parameters
    ----------
    config : RunConfig
    texts : Path
        Holds files such as ``en_gutenberg.txt``, whose names begin with the language.

    Raises
    ------
    UserError
        If there is no text in a language of `READERS`.
    """
    scripts: list[ScriptConfig] = []
    for file in sorted(texts.glob("*.txt")):
        readers = READERS.get(file.name.split("_")[0])
        if readers is not None:
            scripts.append(ScriptConfig(file=file, voices=readers))
            scripts.append(ScriptConfig(file=file, voices=("latin",)))
    if not scripts:
        raise UserError(
            f"{texts}: holds no text such as {', '.join(f'{c}_*.txt' for c in READERS)}"
        )
    spoken = config.pretrain.spoken.model_copy(update={"scripts": tuple(scripts)})
    pretrain = config.pretrain.model_copy(update={"spoken": spoken})
    return config.model_copy(update={"pretrain": pretrain})


SIZES = {"test": TEST, "cpu": CPU, "gpu": GPU}
