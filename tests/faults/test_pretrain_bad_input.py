"""What users and disks do wrong with a pre-training is answered in one line."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from songs import write_songs
from tiny_pretrain import TINY, tiny_network
from typer.testing import CliRunner

from wav2vec_u.cli import app
from wav2vec_u.config import load_config
from wav2vec_u.encoder.checkpoint import save_encoder
from wav2vec_u.pretrain.stage import pretrain
from wav2vec_u.runtime.errors import UserError

ROUND = {"targets": "mfcc", "clusters": 4, "updates": 2}
PRETRAIN = {"device": "cpu", "network": TINY.model_dump(), "rounds": [ROUND], "batch_seconds": 4.0}


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"), n_train=11, n_test=1)


def run(audio: Path, out: Path, start: Path | None = None, **changed: Any) -> dict[str, Any]:
    config = load_config(
        None, threads=1, silence={"method": "none"}, pretrain={**PRETRAIN, **changed}
    )
    return pretrain([audio], out, config, start)


def refused(audio: Path, out: Path, said: str, **changed: Any) -> None:
    with pytest.raises(UserError, match=said) as caught:
        run(audio, out, **changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["nowhere", "empty", "000.wav"])
def test_recordings_that_are_none(songs: Path, tmp_path: Path, given: str) -> None:
    (songs.parent / "empty").mkdir(exist_ok=True)
    refused(songs.parent / given, tmp_path / "out", given)
    assert not (tmp_path / "out" / "corpus-1").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"device": "toaster"}, "toaster"),
        ({"network": {**TINY.model_dump(), "heads": 3}}, r"pretrain\.network\.heads"),
        ({"rounds": [ROUND, {**ROUND, "targets": 2}]}, r"pretrain\.rounds: targets `2`"),
    ],
)
def test_settings_that_cannot_be_met_are_noticed_before_any_work(
    songs: Path, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    refused(songs, tmp_path / "out", said, **changed)
    assert not (tmp_path / "out" / "corpus-1").exists()


def test_the_contrastive_objective_needs_no_targets(songs: Path, tmp_path: Path) -> None:
    """Nor must the blocks that they would be taken from exist."""
    contrastive = {"codes": 4, "entry_dim": 4, "projection_dim": 8, "distractors": 5}
    changed = {"objective": "contrastive", "contrastive": contrastive, "mask_probability": 0.3}
    run(songs, tmp_path / "out", rounds=[{**ROUND, "targets": 9}], **changed)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "description"])
def test_a_start_that_is_no_encoder(songs: Path, tmp_path: Path, damage: str) -> None:
    start = tmp_path / "start"
    if damage != "missing":
        save_encoder(start, tiny_network(), {})
        weights = start / "encoder.safetensors"
        if damage == "description":
            (start / "encoder.json").write_text("{")
        else:
            weights.write_bytes(weights.read_bytes()[: 500 if damage == "cut" else 0])
    refused(songs, tmp_path / "out", str(start), start=start)
    assert not (tmp_path / "out" / "corpus-1").exists()


def test_more_clusters_than_frames(songs: Path, tmp_path: Path) -> None:
    rounds = [{**ROUND, "clusters": 30_000}]
    refused(songs, tmp_path / "out", r"pretrain\.rounds: 30000 clusters", rounds=rounds)


def test_two_trainings_in_one_folder(songs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"):
        refused(songs, out, "another process pre-trains in this folder")
    assert [path.name for path in out.iterdir()] == [".lock"]
    run(songs, out)


def test_out_is_a_file(songs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    refused(songs, tmp_path / "out", "is no folder")
    refused(songs, tmp_path / "out" / "inside", "is no folder")


@pytest.mark.parametrize("where", ["pack", "targets-1", "round-1"])
def test_the_disk_fills_up(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    plain = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name == f"{where}.partial":
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        refused(songs, tmp_path / "out", "the disk is full")
    assert not (tmp_path / "out" / where).exists()
    run(songs, tmp_path / "out")


def test_a_loss_that_is_no_number_is_told_in_one_line(songs: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    values = {"silence": {"method": "none"}, "pretrain": {**PRETRAIN, "learning_rate": 1e38}}
    settings.write_text(json.dumps(values), encoding="utf-8")
    command = ["pretrain", "--audio", str(songs), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, "--config", str(settings)])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert "is not a number at update 2 of round 1" in result.output
    assert not (tmp_path / "out" / "round-1").exists()
