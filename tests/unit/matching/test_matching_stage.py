"""The matching stage on artefacts of a made-up language: its methods, files and refusals.

Settings are too small to learn anything; whether it learns is asked in
``tests/pipeline/test_decipherment_planted.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted_run import without_silence, write_segments, write_text_artifact

from wav2vec_u.config import DeciphermentConfig, GanConfig, MatchingConfig
from wav2vec_u.matching import readings, stage
from wav2vec_u.matching.generator import Generator, load_generator
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import PlantedSegments, plant
from wav2vec_u.text.corpus import PhoneText

LANGUAGE = make_language(1, n_consonants=8, n_vowels=4)
SEGMENTS = without_silence(plant(LANGUAGE, utterances=40, sentences=1, dim=8).segments)


@dataclass(frozen=True)
class Inputs:
    segments: Path
    text: Path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    return Inputs(
        write_segments(folder / "segments", SEGMENTS),
        write_text_artifact(folder / "text", LANGUAGE, 200),
    )


def config(method: Any = "decipherment", seeds: int = 2, **gan: Any) -> MatchingConfig:
    decipherment = DeciphermentConfig(
        codes=16,
        min_phone_share=0.0,
        bigram_iterations=2,
        trigram_iterations=2,
        final_iterations=1,
        generator_hidden=16,
        generator_epochs=2,
        generator_least_updates=1,
    )
    small: dict[str, Any] = {
        "batch_size": 4,
        "discriminator_dim": 8,
        "updates": 6,
        "checkpoint_every": 3,
        "log_every": 2,
        "score_utterances": 4,
        "reviews": (),
    }
    return MatchingConfig(
        method=method,
        seeds=seeds,
        device="cpu",
        gan=GanConfig(**(small | gan)),
        decipherment=decipherment,
    )


def run(folder: Path, inputs: Inputs, settings: MatchingConfig, resumed: bool = False) -> Work:
    folder.mkdir(exist_ok=True)
    work = Work(folder, resumed=resumed)
    stage.run(work, settings, inputs.segments, inputs.text)
    return work


def selection(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "selection.json").read_text())
    return found


def generator(folder: Path) -> Generator:
    return load_generator(folder / "generator.safetensors")


def same(one: Generator, other: Generator) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_decipherment_keeps_the_member_of_the_highest_gain(inputs: Inputs, tmp_path: Path) -> None:
    work = run(tmp_path, inputs, config(seeds=3))
    found = selection(tmp_path)
    rows = found["members"]
    assert [row["member"] for row in rows] == [0, 1, 2]
    best = max(rows, key=lambda row: row["likelihood_gain"])["member"]
    assert found["selected"] == best == work.counts["selected_seed"]
    assert found["metric"] == work.counts["selection_metric"] == "likelihood_gain"
    assert found["selected_by_paper"] in (0, 1, 2)
    assert same(generator(tmp_path), generator(tmp_path / f"member_{best:02d}"))
    assert generator(tmp_path).settings["n_phones"] == len(PhoneText(inputs.text).phones)
    assert work.counts["seeds"] == 3
    # The text against its own model: above 1, and not above its number of phones.
    assert 1 < work.counts["text_lm_ppl"] < len(PhoneText(inputs.text).phones)
    for row in rows:
        assert row["lm_ppl"] > 1
        assert 0 <= row["usage"] <= 1


def test_a_killed_stage_resumed_equals_an_uninterrupted_one(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole", inputs, config())
    distil = readings.distil

    def killed(*arguments: Any, folder: Path, **options: Any) -> None:
        if folder.name == "member_01":
            raise KeyboardInterrupt
        distil(*arguments, folder=folder, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(readings, "distil", killed)
        run(tmp_path / "cut", inputs, config())
    assert not (tmp_path / "cut" / "generator.safetensors").exists()
    run(tmp_path / "cut", inputs, config(), resumed=True)
    assert selection(tmp_path / "cut") == selection(tmp_path / "whole")
    assert same(generator(tmp_path / "cut"), generator(tmp_path / "whole"))


def test_a_few_updates_of_the_gan(inputs: Inputs, tmp_path: Path) -> None:
    work = run(tmp_path, inputs, config("gan"))
    found = selection(tmp_path)
    assert found["metric"] == work.counts["selection_metric"] == "likelihood_gain"
    assert [row["member"] for row in found["members"]] == [0, 1]
    best = max(found["members"], key=lambda row: row["likelihood_gain"])
    assert found["selected"] == best["member"]
    assert generator(tmp_path).settings["n_phones"] == len(PhoneText(inputs.text).phones)


def test_the_reference_chooses_as_published(inputs: Inputs, tmp_path: Path) -> None:
    work = run(tmp_path, inputs, config("gan", reference=True))
    found = selection(tmp_path)
    assert found["metric"] == work.counts["selection_metric"] == "paper_three_steps"
    assert found["selected"] == found["selected_by_paper"]
    assert all("likelihood_gain" not in row for row in found["members"])


def test_members_that_gave_way_can_be_selected(inputs: Inputs, tmp_path: Path) -> None:
    settings = config("gan", reviews=(0.5,))
    work = run(tmp_path, inputs, settings)
    assert [row["member"] for row in selection(tmp_path)["members"]] == [0, 1, 2]
    assert work.counts["seeds"] == 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"generator_stride": 2},
        {"generator_batch_norm": 3.0, "generator_residual": True, "generator_kernel": 5},
        {"reference": True},
    ],
)
def test_the_gan_starts_from_the_decipherment(
    inputs: Inputs, tmp_path: Path, options: dict[str, Any]
) -> None:
    # Updates that change next to nothing: what comes out is what went in.
    settings = config("decipherment+gan", seeds=1, generator_lr=1e-12, **options)
    run(tmp_path, inputs, settings)
    start = load_generator(tmp_path / "start/member_00/generator.safetensors")
    torch.testing.assert_close(
        generator(tmp_path).conv.weight, start.conv.weight, rtol=1e-4, atol=1e-6
    )


def test_the_gan_starts_from_the_best_reading(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    train = stage.train_gan

    def spy(*arguments: Any, start: Any, **options: Any) -> Any:
        started.append(start)
        return train(*arguments, start=start, **options)

    monkeypatch.setattr(stage, "train_gan", spy)
    run(tmp_path, inputs, config("decipherment+gan", seeds=3))
    gains = [
        json.loads((tmp_path / f"start/member_{number:02d}/gain.json").read_text())["gain"]
        for number in range(3)
    ]
    best = load_generator(
        tmp_path / f"start/member_{int(np.argmax(gains)):02d}/generator.safetensors"
    )
    assert torch.equal(started[0]["conv.weight"], best.conv.weight)
    chosen = selection(tmp_path)["selected"]
    kept = load_generator(tmp_path / f"member_{chosen:02d}/generator.safetensors")
    assert torch.equal(generator(tmp_path).conv.weight, kept.conv.weight)
    assert [row["member"] for row in selection(tmp_path)["members"]] == [0, 1, 2]


def subset(utterances: list[int]) -> PlantedSegments:
    return PlantedSegments(
        [SEGMENTS.vectors(i) for i in utterances],
        [SEGMENTS.labels(i) for i in utterances],
        ["train"] * len(utterances),
    )


@pytest.mark.parametrize("method", ["decipherment", "gan"])
def test_a_single_utterance_is_enough_to_run(inputs: Inputs, tmp_path: Path, method: str) -> None:
    longest = max(range(len(SEGMENTS)), key=lambda i: len(SEGMENTS.vectors(i)))
    alone = write_segments(tmp_path / "segments", subset([longest]))
    run(tmp_path / "out", Inputs(alone, inputs.text), config(method, seeds=1))
    assert len(selection(tmp_path / "out")["members"]) == 1
    assert generator(tmp_path / "out").settings["in_dim"] == SEGMENTS.dim


def test_too_few_segments_are_said(inputs: Inputs, tmp_path: Path) -> None:
    shortest = min(range(len(SEGMENTS)), key=lambda i: len(SEGMENTS.vectors(i)))
    alone = write_segments(tmp_path / "segments", subset([shortest]))
    with pytest.raises(UserError, match=r"more recordings or lower matching\.decipherment\.codes"):
        run(tmp_path / "out", Inputs(alone, inputs.text), config())
    assert not (tmp_path / "out" / "generator.safetensors").exists()


def test_too_few_phones_are_said(inputs: Inputs, tmp_path: Path) -> None:
    poor = make_language(0, n_consonants=2, n_vowels=1, n_words=4)
    text = write_text_artifact(tmp_path / "text", poor, 30)
    with pytest.raises(UserError, match=r"text: only \d phones"):
        run(tmp_path / "out", Inputs(inputs.segments, text), config())


def test_no_training_split_is_said(inputs: Inputs, tmp_path: Path) -> None:
    held_out = PlantedSegments([SEGMENTS.vectors(0)], [SEGMENTS.labels(0)], ["test"])
    segments = write_segments(tmp_path / "segments", held_out)
    with pytest.raises(UserError, match="split `train`"):
        run(tmp_path / "out", Inputs(segments, inputs.text), config())
