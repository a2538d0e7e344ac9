"""A probe from recordings to figures, on tones that spell letters."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from songs import write_songs
from typer.testing import CliRunner

from wav2vec_u import cli
from wav2vec_u.config import RunConfig, load_config
from wav2vec_u.evaluate.labelled import read_labelled
from wav2vec_u.features.mfcc import log_mel
from wav2vec_u.probe import stage
from wav2vec_u.probe.layer_choice import LayerChoice
from wav2vec_u.probe.linear_ctc import ProbeSettings
from wav2vec_u.probe.plot import Point, draw
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.testing.encoders import save_tiny_encoder

NOISES = (6.0, 0.2, 3.0)


class NoisyMel:
    """Blocks of log-mel energies under more or less noise; the middle one is the clean one."""

    block_names = ["0", "1", "2"]  # noqa: RUF012
    frame_rate_hz = 50.0

    def encode_blocks(self, waveforms: list[np.ndarray]) -> list[list[np.ndarray]]:
        rng = np.random.default_rng(0)
        found = []
        for waveform in waveforms:
            energies = log_mel(waveform)[::2]
            found.append(
                [
                    (energies + noise * rng.standard_normal(energies.shape)).astype(np.float32)
                    for noise in NOISES
                ]
            )
        return found


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(ProbeSettings, max_rounds=6, round_updates=40, learning_rate=0.1)
    monkeypatch.setattr(stage, "ProbeSettings", quick)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_songs(tmp_path_factory.mktemp("probe-songs"))


@pytest.fixture
def mel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "load_block_encoder", lambda name, device: NoisyMel())


def config(**values: Any) -> RunConfig:
    probe = {"clusters": 12, "bootstrap_samples": 100, "device": "cpu", **values}
    return load_config(None, text={"phonemizer": "graphemes"}, probe=probe)


def test_the_clean_block_is_found_with_and_without_labels(
    songs: Path, tmp_path: Path, mel: None
) -> None:
    report = stage.run(tmp_path, "mel", songs, config())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == report.metrics
    assert metrics["probe_layer"] == metrics["label_free_layer"] == 1
    rates = metrics["probe_per_by_layer"]
    assert rates["1"] < rates["2"] < rates["0"]
    assert metrics["probe_per"] == rates["1"] < 30
    low, high = metrics["probe_interval_by_layer"]["1"]
    assert low <= rates["1"] <= high
    assert metrics["probe_per_mfcc"] < 30
    assert metrics["label_free_regret"] == 0
    assert metrics["label_free_spearman"]["combined"] == -1
    assert set(metrics["label_free_spearman"]) == {
        "predictability",
        "stability",
        "persistence",
        "combined",
    }
    assert (metrics["train_utterances"], metrics["test_utterances"]) == (60, 12)
    assert metrics["phone_types"] == 5

    rows = list(read_jsonl(tmp_path / "probe.jsonl"))
    assert [row["block"] for row in rows] == ["0", "1", "2", "mfcc"]
    assert [row["per"] for row in rows[:3]] == list(rates.values())
    assert "stability" in rows[0]
    assert "stability" not in rows[3]
    ElementTree.parse(tmp_path / "probe.svg")
    # No frames are left behind.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json",
        "probe.jsonl",
        "probe.svg",
        "rejected.jsonl",
    ]


def test_bad_recordings_and_transcripts_are_listed(songs: Path, tmp_path: Path, mel: None) -> None:
    folder = tmp_path / "songs"
    shutil.copytree(songs.parent, folder)
    soundfile.write(folder / "short.wav", 0.1 * np.ones(300), 16_000)
    soundfile.write(folder / "long.wav", 0.1 * np.ones(16_000 * 31), 16_000)
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000)
    soundfile.write(folder / "noise.wav", noise, 16_000)
    (folder / "bad.wav").write_text("no sound")
    with (folder / "manifest.tsv").open("a", encoding="utf-8") as file:
        for name, text in (
            ("short", "ab"),
            ("long", "ab"),
            ("noise", "ab"),
            ("bad", "ab"),
            ("001", "3"),
        ):
            file.write(f"{name}.wav\ts\t1\ttrain\t{text}\n")
    lines = (folder / "manifest.tsv").read_text().splitlines()
    # The second line for a recording is passed over; make the first one unpronounceable too.
    lines = [line if not line.startswith("001") else "001.wav\ts\t1\ttrain\t3 4" for line in lines]
    (folder / "manifest.tsv").write_text("\n".join(lines), encoding="utf-8")
    report = stage.run(
        tmp_path / "out", "mel", folder / "manifest.tsv", config(label_free=False, layers=(1,))
    )
    listed = {
        row["what"].split("/")[-1]: row["reason"]
        for row in read_jsonl(tmp_path / "out/rejected.jsonl")
    }
    assert listed["short"] == "too_short"
    assert listed["long"] == "too_long"
    assert listed["noise"] == "noise"
    assert listed["bad"] == "not_audio"
    assert listed["001"] == "unpronounceable"
    assert report.metrics["rejected"]["too_short"] == 1
    assert report.metrics["train_utterances"] == 59
    assert report.choice is None
    assert list(report.blocks) == ["1"]


def test_hours_are_bounded_and_mfcc_is_the_measure(
    songs: Path, tmp_path: Path, mel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "load_baseline", NoisyMel)  # its first block, the noisiest
    seconds = sum(item.seconds for item in read_labelled(songs).recordings if item.split == "train")
    half = seconds / 2 / 3600
    metrics = stage.run(
        tmp_path, "mel", songs, config(max_train_hours=half, layers=(2,), label_free=False)
    ).metrics
    assert 0.8 * half < metrics["hours_train"] <= half + 1e-4
    assert metrics["train_utterances"] < 40
    assert metrics["probe_per_mfcc"] > metrics["probe_per"] > 0
    assert metrics["probe_ratio_to_mfcc"] == pytest.approx(
        metrics["probe_per"] / metrics["probe_per_mfcc"], abs=1e-3
    )


def test_minutes_without_labels_are_bounded(
    songs: Path, tmp_path: Path, mel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    listened: list[int] = []
    choose = stage.choose_layer

    def count(blocks: dict[str, list[np.ndarray]], rate: float, **more: Any) -> LayerChoice:
        listened.append(sum(map(len, next(iter(blocks.values())))))
        return choose(blocks, rate, **more)

    monkeypatch.setattr(stage, "choose_layer", count)
    for minutes in (1.0, 0.5):
        stage.run(tmp_path, "mel", songs, config(label_free_minutes=minutes, layers=(1, 2)))
    assert listened[0] > 1.5 * listened[1] > 0
    assert listened[0] <= 1.0 * 60 * NoisyMel().frame_rate_hz * 1.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": (3,)}, "mel has 3 blocks, so the last layer is 2, not 3"),
        ({"test_split": "dev"}, r"no recording of split dev can be used \(splits: test, train"),
        ({"test_split": "train"}, "probe.test_split: is what is learned from"),
        ({"max_train_hours": 0.003}, "a probe needs 10 transcribed training utterances"),
    ],
)
def test_mistakes_are_one_line(
    songs: Path, tmp_path: Path, mel: None, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        stage.run(tmp_path, "mel", songs, config(**values))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "metrics.json").exists()
    assert not list(tmp_path.glob("frames.*"))


def test_frames_that_are_no_numbers_are_rejected(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(NoisyMel):
        def encode_blocks(self, waveforms: list[np.ndarray]) -> list[list[np.ndarray]]:
            found = super().encode_blocks(waveforms)
            for blocks in found:
                blocks[2][0, 0] = np.inf
            return found

    monkeypatch.setattr(stage, "load_block_encoder", lambda name, device: Broken())
    with pytest.raises(UserError, match=r"no recording of split train can be used .*non_finite"):
        stage.run(tmp_path, "broken", songs, config())


def test_the_command(songs: Path, tmp_path: Path) -> None:
    encoder = save_tiny_encoder(tmp_path / "encoder", "wav2vec2-layer", blocks=2)
    arguments = ["probe", encoder, "--references", songs, "--out", tmp_path / "out"]
    settings = ("text.phonemizer=graphemes", "probe.clusters=8", "threads=1", "probe.device=cpu")
    for setting in settings:
        arguments += ["--set", setting]
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "MFCC" in result.stdout
    assert "chosen without labels: layer" in result.stdout
    assert "mfcc" in result.stdout
    assert (tmp_path / "out" / "metrics.json").exists()
    result = CliRunner().invoke(
        cli.app, [str(argument) for argument in [*arguments, "--set", "probe.layers=[5]"]]
    )
    assert result.exit_code == 2
    assert "has 2 blocks" in result.stderr


def test_the_plot_shows_every_block_and_escapes_names() -> None:
    picture = draw(
        "a <b> & c", [Point("0", 50, 45, 55), Point("1", 20, 18, 23)], Point("M<", 60, 59, 61)
    )
    root = ElementTree.fromstring(picture)
    namespace = "{http://www.w3.org/2000/svg}"
    centres = [float(item.get("cy", "")) for item in root.iter(f"{namespace}circle")]
    assert len(centres) == 2
    assert centres[0] < centres[1]  # a higher error rate stands higher
    assert "M< 60.0" in "".join(root.itertext())
    nothing = draw("0", [Point("0", 0, 0, 0)], Point("m", 0, 0, 0))
    assert "nan" not in nothing
