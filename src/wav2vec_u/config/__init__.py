"""Every setting of the system, in one place.

One frozen model a stage; unknown keys are refused, so that a typing mistake in a YAML file is an
error and not a silently ignored wish. Defaults name where they come from: ``paper`` is Baevski et
al. (2021), *Unsupervised Speech Recognition*; ``reference`` is the code published with it;
``measured`` stands in RESULTS.md.
"""

from wav2vec_u.config.audio import CorpusConfig, FeaturesConfig, SilenceConfig
from wav2vec_u.config.base import SAMPLE_RATE, Settings
from wav2vec_u.config.labelled import EvaluateConfig, FinetuneConfig, ProbeConfig
from wav2vec_u.config.matching import DeciphermentConfig, GanConfig, MatchingConfig, SyntheticConfig
from wav2vec_u.config.pretrain import (
    ContrastiveConfig,
    MaskedPredictionConfig,
    NetworkConfig,
    PretrainConfig,
    ScriptConfig,
    SpokenConfig,
    TargetRound,
)
from wav2vec_u.config.run import RunConfig, load_config
from wav2vec_u.config.selftrain import AdaptConfig, GraphConfig, SelftrainConfig, WordsConfig
from wav2vec_u.config.units import SegmentsConfig, TextConfig

__all__ = [
    "SAMPLE_RATE",
    "AdaptConfig",
    "ContrastiveConfig",
    "CorpusConfig",
    "DeciphermentConfig",
    "EvaluateConfig",
    "FeaturesConfig",
    "FinetuneConfig",
    "GanConfig",
    "GraphConfig",
    "MaskedPredictionConfig",
    "MatchingConfig",
    "NetworkConfig",
    "PretrainConfig",
    "ProbeConfig",
    "RunConfig",
    "ScriptConfig",
    "SegmentsConfig",
    "SelftrainConfig",
    "Settings",
    "SilenceConfig",
    "SpokenConfig",
    "SyntheticConfig",
    "TargetRound",
    "TextConfig",
    "WordsConfig",
    "load_config",
]
