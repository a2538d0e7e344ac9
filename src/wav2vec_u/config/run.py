"""Everything a run depends on, and how it is read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from wav2vec_u.config.audio import CorpusConfig, FeaturesConfig, SilenceConfig
from wav2vec_u.config.base import PositiveInt, Settings
from wav2vec_u.config.labelled import EvaluateConfig, FinetuneConfig, ProbeConfig
from wav2vec_u.config.matching import MatchingConfig
from wav2vec_u.config.pretrain import PretrainConfig
from wav2vec_u.config.selftrain import AdaptConfig, GraphConfig, SelftrainConfig, WordsConfig
from wav2vec_u.config.units import SegmentsConfig, TextConfig
from wav2vec_u.runtime.errors import UserError

# Segments that are not frames are learned from where voices are even and likelihoods can be trusted
# (measured on the demo).
OF_SEGMENTS: dict[str, dict[str, Any]] = {"words": {"scale": 1.0}}


class RunConfig(Settings):
    """Everything a run depends on, stage by stage.

    Where segments are other than frames, what is not given is as in `OF_SEGMENTS`.
    """

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

    @model_validator(mode="before")
    @classmethod
    def _suit_the_segments(cls, values: Any) -> Any:
        if not isinstance(values, dict) or _boundaries(values.get("segments")) == "frames":
            return values
        return {
            **values,
            **{name: _with(preset, values.get(name)) for name, preset in OF_SEGMENTS.items()},
        }


def _boundaries(segments: Any) -> Any:
    if isinstance(segments, dict):
        return segments.get("boundaries", "frames")
    return segments.boundaries if isinstance(segments, SegmentsConfig) else "frames"


def _with(preset: dict[str, Any], section: Any) -> Any:
    """Complete a section by what was not given."""
    if isinstance(section, Settings):
        given = section.model_fields_set
        return section.model_copy(update={k: v for k, v in preset.items() if k not in given})
    return {**preset, **section} if isinstance(section, dict) else section or preset


def load_config(path: str | Path | None = None, **overrides: Any) -> RunConfig:
    """Read a YAML file of settings.

    Parameters
    ----------
    path : str, Path or None
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
            loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
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
