"""The settings that are shipped, and the settings that the documentation speaks of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from wav2vec_u.config import RunConfig, SegmentsConfig, WordsConfig, load_config
from wav2vec_u.config.run import OF_SEGMENTS

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SMALL = (
    "decipherment",
    "demo",
    "kathleen",
    "kerstin",
    "low_resource",
)  # hold only what differs from the defaults
PUBLISHED = ("timit", "librispeech")
SECOND_VERSION = "wav2vec_u2"
PRETRAINING = "pretrain_wav2vec2"
PAGES = sorted((ROOT / "docs").glob("*.md"))
# A row of a table of settings: | `section.key` | default | ...
SETTING_ROW = re.compile(r"^\| `([a-z_.]+)` \| ([^|]+) \|", re.MULTILINE)


def path_of(name: str) -> Path:
    return ROOT / "configs" / f"{name}.yaml"


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested settings."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


DEFAULTS = dict(leaves(RunConfig().model_dump(mode="json")))


def test_every_expected_file_is_there() -> None:
    assert {path.stem for path in CONFIGS} == {*SMALL, *PUBLISHED, SECOND_VERSION, PRETRAINING}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_file_loads_and_says_what_it_holds(path: Path) -> None:
    written = dict(leaves(yaml.safe_load(path.read_text(encoding="utf-8"))))
    loaded = dict(leaves(load_config(path).model_dump(mode="json")))
    assert written
    assert written == {key: loaded[key] for key in written}


@pytest.mark.parametrize("name", SMALL)
def test_small_files_repeat_no_default(name: str) -> None:
    written = dict(leaves(yaml.safe_load(path_of(name).read_text(encoding="utf-8"))))
    assert [key for key, value in written.items() if DEFAULTS[key] == value] == []


SEGMENTED = {"boundaries": "viterbi"}


def test_what_reads_segments_goes_by_how_long_they_last() -> None:
    frames, segments = load_config(None), load_config(None, segments=SEGMENTED)
    for section, preset in OF_SEGMENTS.items():
        for key, value in preset.items():
            assert getattr(getattr(frames, section), key) == DEFAULTS[f"{section}.{key}"] != value
            assert getattr(getattr(segments, section), key) == value
    others = {"words", "segments"}
    assert frames.model_dump(exclude=others) == segments.model_dump(exclude=others)


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_given_stands_whatever_the_segments(whole: bool) -> None:
    for given in ({"scale": 0.7}, {"beam": 5.0}):
        config = RunConfig(
            segments=SegmentsConfig(**SEGMENTED) if whole else SEGMENTED,
            words=WordsConfig(**given) if whole else given,
        )
        assert config.words == WordsConfig(**{**OF_SEGMENTS["words"], **given})
        assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_the_demo_runs_with_its_file() -> None:
    from wav2vec_u.demo.recordings import RecordingsConfig
    from wav2vec_u.demo.run import DEMO_SETTINGS

    used = load_config(None, **DEMO_SETTINGS, language=RecordingsConfig().voice)
    assert load_config(path_of("demo")) == used


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name: str) -> None:
    config = load_config(path_of(name))
    assert config.features.encoder == "facebook/wav2vec2-large-lv60"
    assert config.features.layer == 14
    segments = config.segments
    assert (segments.boundaries, segments.clusters) == ("clusters", 128)
    assert (segments.pca_dim, segments.pool_pairs) == (512, True)
    assert config.matching.method == "gan"
    gan = config.matching.gan
    assert gan.reference
    assert gan.segmenter == "join"
    assert (gan.gradient_penalty, gan.smoothness, gan.diversity) == ((1.5,), (0.5,), (4.0,))
    assert (gan.generator_kernel, gan.generator_stride, gan.generator_dropout) == (4, 1, 0.1)
    assert (gan.discriminator_dim, gan.discriminator_depth) == (384, 2)
    assert gan.discriminator_kernel == 6
    assert (gan.generator_lr, gan.discriminator_lr) == ((4e-4,), (5e-4,))
    assert (gan.batch_size, gan.updates) == (160, 150_000)


def test_the_second_version_as_published() -> None:
    """wav2vec-U 2.0: the numbers of its `w2vu2.yaml`."""
    config = load_config(path_of(SECOND_VERSION))
    assert config.features.encoder == "facebook/wav2vec2-large-lv60"
    assert config.segments.boundaries == "frames"
    gan = config.matching.gan
    assert not gan.reference
    assert (gan.generator_kernel, gan.generator_stride, gan.generator_dropout) == (9, 3, 0.1)
    assert (gan.generator_batch_norm, gan.generator_residual) == (30.0, True)
    assert (gan.discriminator_dim, gan.discriminator_depth) == (384, 2)
    assert gan.discriminator_kernel == 8
    assert (gan.gradient_penalty, gan.smoothness, gan.diversity) == ((1.0,), (1.5,), (3.0,))
    assert (gan.auxiliary, gan.auxiliary_codes) == ((0.5,), 64)
    assert (gan.skipgrams, gan.positions) == ((0.0,), (0.0,))
    assert (gan.generator_lr, gan.discriminator_lr) == ((5e-5,), (3e-4,))
    assert (gan.batch_size, gan.updates, gan.segmenter) == (160, 150_000, "join")


def test_silence_of_the_published_settings() -> None:
    timit, librispeech = (load_config(path_of(name)) for name in PUBLISHED)
    assert timit.silence.method == "none"
    assert (timit.text.silence_probability, timit.text.surround_with_silence) == (0.0, False)
    assert (librispeech.silence.method, librispeech.silence.threshold) == ("rvad", 0.4)
    assert librispeech.silence.margin_seconds == 0.0
    assert librispeech.text.silence_probability == 0.25
    assert librispeech.text.surround_with_silence


def test_pre_training_as_published() -> None:
    """wav2vec 2.0, section 4.2, and its equations 2 to 4."""
    config = load_config(path_of(PRETRAINING))
    pretrain = config.pretrain
    assert config.silence.method == "none"
    assert pretrain.objective == "contrastive"
    network = pretrain.network
    assert (network.front_end, network.conv_channels) == ("waveform", 512)
    assert (network.context, network.blocks, network.dim) == ("transformer", 12, 768)
    assert (network.feed_forward_dim, network.heads) == (3_072, 8)
    assert (network.position_kernel, network.position_groups) == (128, 16)
    assert (network.dropout, network.layer_drop) == (0.1, 0.05)
    contrastive = pretrain.contrastive
    assert (contrastive.codebooks, contrastive.codes, contrastive.entry_dim) == (2, 320, 128)
    assert (contrastive.distractors, contrastive.similarity_temperature) == (100, 0.1)
    assert contrastive.diversity_weight == 0.1
    assert (contrastive.start_temperature, contrastive.end_temperature) == (2.0, 0.5)
    assert (pretrain.mask_probability, pretrain.mask_length) == (0.065, 10)
    assert pretrain.batch_seconds * pretrain.accumulate == 5_600  # 1.6 hours
    assert (pretrain.max_seconds, pretrain.learning_rate) == (15.6, 5e-4)
    assert [round_.updates for round_ in pretrain.rounds] == [400_000]
    # Up for 8 % of the updates, down for the rest.
    assert (pretrain.warmup, pretrain.warmup + pretrain.decay) == (0.08, 1.0)


def test_a_setting_that_is_not_given_is_the_same_beside_others_that_are() -> None:
    """As if a section had been left out: no section is made with values that its class lacks."""

    def check(settings: BaseModel) -> None:
        for name, field in type(settings).model_fields.items():
            value = getattr(settings, name)
            if isinstance(value, BaseModel):
                assert value == type(value)(), f"{name}: {field.default}"
                check(value)

    check(RunConfig())


def test_documented_settings_exist_with_these_defaults() -> None:
    """Tables in the pages have rows ``| `section.key` | default | ...``."""
    rows = [
        (path.name, key, written.strip().strip("`"))
        for path in PAGES
        for key, written in SETTING_ROW.findall(path.read_text(encoding="utf-8"))
        if "." in key
    ]
    assert len(rows) > 40
    wrong = [
        (page, key, written)
        for page, key, written in rows
        if key not in DEFAULTS or yaml.safe_load(written) != DEFAULTS[key]
    ]
    assert wrong == []
