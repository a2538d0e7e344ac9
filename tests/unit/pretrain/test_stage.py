"""`wav2vec-u pretrain`: what it hears, what it skips, where it goes on."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from songs import write_songs
from tiny_pretrain import RATE, TINY, tiny_network
from typer.testing import CliRunner

from wav2vec_u.cli import app
from wav2vec_u.config import RunConfig, TargetRound, load_config
from wav2vec_u.encoder.checkpoint import load_description, load_network, save_encoder
from wav2vec_u.features.own import OwnEncoder
from wav2vec_u.pretrain import prepare, stage, train
from wav2vec_u.pretrain.pack import AudioPack
from wav2vec_u.pretrain.stage import pretrain
from wav2vec_u.runtime.artifact import read_record
from wav2vec_u.runtime.checkpoint import save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl

ROUNDS = [
    {"targets": "mfcc", "clusters": 6, "updates": 6},
    {"targets": 1, "clusters": 6, "updates": 4},
]
STEPS = ["corpus-1", "silence-1", "pack", "targets-1", "round-1", "targets-2", "round-2", "encoder"]


def settings(**changed: Any) -> RunConfig:
    return load_config(
        None,
        threads=1,
        silence={"method": "none"},
        pretrain={
            "device": "cpu",
            "network": TINY.model_dump(),
            "rounds": ROUNDS,
            "batch_seconds": 4.0,
            "log_every": 2,
            "checkpoint_every": 2,
            **changed,
        },
    )


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"), n_train=12, n_test=3)


@pytest.fixture(scope="module")
def finished(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    pretrain([songs], out, settings())
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A finished training that may be changed."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def encoder_of(out: Path) -> bytes:
    return (out / "encoder" / "encoder.safetensors").read_bytes()


def times_of(out: Path) -> dict[str, int]:
    """When each file was written, but for the figures of a run and its lock."""
    return {
        path.relative_to(out).as_posix(): path.stat().st_mtime_ns
        for path in out.rglob("*")
        if path.is_file() and path.name not in {".lock", "metrics.json"}
    }


def made_anew(before: dict[str, int], out: Path) -> list[str]:
    after = times_of(out)
    changed = {Path(name).parts[0] for name in after if after[name] != before.get(name)}
    return [name for name in STEPS if name in changed]


def copy_songs(songs: Path, folder: Path) -> Path:
    shutil.copytree(songs.parent, folder)
    return folder / songs.name


# -- what it makes


def test_the_folder_tells_the_story(finished: Path, songs: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == sorted(
        [*STEPS, ".lock", "metrics.json"]
    )
    metrics = json.loads((finished / "metrics.json").read_text())
    pack = AudioPack(finished / "pack")
    assert metrics["utterances"] == len(pack) == 12
    assert metrics["hours_audio"] == pytest.approx(pack.hours, abs=1e-3)
    assert metrics["updates"] == 10
    network = load_network(finished / "encoder")
    assert network.config == TINY
    assert metrics["parameters"] == sum(value.numel() for value in network.parameters())
    assert 0 < metrics["validation_loss"] < 20
    assert 0 < metrics["hours_heard"] < 10 * 4.0 / 3600
    info = load_description(finished / "encoder")["info"]
    assert (info["objective"], info["seed"]) == ("masked_prediction", 0)
    assert info["rounds"] == ROUNDS
    assert info["validation_loss"] == metrics["validation_loss"]
    for number in (1, 2):
        assert not (finished / f"round-{number}" / "checkpoint.safetensors").exists()
        assert list(read_jsonl(finished / f"round-{number}" / "log.jsonl"))
    # The encoder is that of the last round, and another than that of the first.
    weights = [load_network(finished / n).mask_vector for n in ("round-1", "round-2", "encoder")]
    assert torch.equal(weights[1], weights[2]) and not torch.equal(weights[0], weights[1])


def test_the_encoder_encodes(finished: Path, songs: Path) -> None:
    samples, _ = soundfile.read(songs.parent / "000.wav", dtype="float32")
    frames = OwnEncoder(finished / "encoder", device="cpu").encode([samples])[0]
    assert frames.shape[0] == pytest.approx(50 * len(samples) / RATE, abs=5)
    assert np.isfinite(frames).all()


def test_the_second_round_predicts_blocks_of_the_first(finished: Path) -> None:
    records = [read_record(finished / f"targets-{number}") for number in (1, 2)]
    assert records[0] is not None and records[1] is not None
    assert records[0].inputs["network"] == "" != records[1].inputs["network"]
    codes = [np.load(finished / f"targets-{number}" / "codes.npy") for number in (1, 2)]
    assert len(codes[0]) != len(codes[1]) or (codes[0] != codes[1]).any()


def test_a_contrastive_training(songs: Path, tmp_path: Path) -> None:
    contrastive = {"codes": 8, "entry_dim": 4, "projection_dim": 16, "distractors": 10}
    config = settings(objective="contrastive", contrastive=contrastive, mask_probability=0.2)
    metrics = pretrain([songs], tmp_path / "out", config)
    assert metrics["validation_code_perplexity"] > 1
    assert not list((tmp_path / "out").glob("targets-*"))
    assert load_network(tmp_path / "out" / "encoder").config == TINY


# -- what it hears


def test_only_the_train_split_is_heard(finished: Path, songs: Path, tmp_path: Path) -> None:
    """Noise in the place of every test recording changes nothing."""
    manifest = copy_songs(songs, tmp_path / "songs")
    rng = np.random.default_rng(0)
    for number in (12, 13, 14):
        soundfile.write(manifest.parent / f"{number:03d}.wav", rng.uniform(-0.5, 0.5, RATE), RATE)
    pretrain([manifest], tmp_path / "out", settings())
    assert encoder_of(tmp_path / "out") == encoder_of(finished)
    assert AudioPack(finished / "pack").ids == [f"{number:03d}" for number in range(12)]
    # And a training recording does matter.
    soundfile.write(manifest.parent / "003.wav", rng.uniform(-0.5, 0.5, RATE), RATE)
    pretrain([manifest], tmp_path / "out", settings())
    assert encoder_of(tmp_path / "out") != encoder_of(finished)


def test_what_leaves_the_train_split_leaves_the_pack(songs: Path, tmp_path: Path) -> None:
    """The recordings are the same files, so it is the manifest that must be looked at."""
    manifest = copy_songs(songs, tmp_path / "songs")
    pretrain([manifest], tmp_path / "out", settings())
    lines = manifest.read_text().splitlines()
    lines[4] = lines[4].replace("\ttrain\t", "\ttest\t")
    manifest.write_text("\n".join(lines) + "\n")
    pretrain([manifest], tmp_path / "out", settings())
    ids = AudioPack(tmp_path / "out" / "pack").ids
    assert ids == [f"{number:03d}" for number in range(12) if number != 3]


def test_transcripts_do_not_matter(copy: Path, songs: Path) -> None:
    """What stands in the column of transcripts makes nothing stale."""
    before = times_of(copy)
    text = songs.read_text()
    try:
        songs.write_text(text.replace("!", " AND MORE!"))
        pretrain([songs], copy, settings())
    finally:
        songs.write_text(text)
    assert made_anew(before, copy) == []


def test_several_inputs(songs: Path, tmp_path: Path) -> None:
    """A folder has no splits, so that all of it is heard; names may be the same."""
    folder = copy_songs(songs, tmp_path / "songs").parent
    pretrain([songs, folder], tmp_path / "out", settings(rounds=ROUNDS[:1]))
    pack = AudioPack(tmp_path / "out" / "pack")
    assert len(pack) == 12 + 15
    assert (tmp_path / "out" / "silence-2" / "stage.json").exists()


def test_damaged_recordings_are_listed(songs: Path, tmp_path: Path) -> None:
    manifest = copy_songs(songs, tmp_path / "songs")
    (manifest.parent / "000.wav").write_text("no sound")
    soundfile.write(manifest.parent / "001.wav", np.full(6_000, 0.1), RATE)
    pretrain([manifest], tmp_path / "out", settings(rounds=ROUNDS[:1]))
    listed = [
        Path(row["what"]).stem
        for step in ("corpus-1", "pack")
        for row in read_jsonl(tmp_path / "out" / step / "rejected.jsonl")
    ]
    assert listed == ["000", "001"]
    assert len(AudioPack(tmp_path / "out" / "pack")) == 10


# -- what it skips


def test_a_second_run_does_nothing(copy: Path, songs: Path) -> None:
    metrics = json.loads((copy / "metrics.json").read_text())
    before = times_of(copy)
    again = pretrain([songs], copy, settings())
    assert times_of(copy) == before
    assert json.loads((copy / "metrics.json").read_text()) == metrics == again


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"checkpoint_every": 3, "log_every": 1}, []),
        ({"rounds": [ROUNDS[0], {**ROUNDS[1], "updates": 5}]}, ["round-2", "encoder"]),
        (
            {"rounds": [ROUNDS[0], {**ROUNDS[1], "clusters": 5}]},
            ["targets-2", "round-2", "encoder"],
        ),
        ({"learning_rate": 0.01}, ["round-1", "targets-2", "round-2", "encoder"]),
        ({"min_seconds": 0.6}, STEPS[2:-1]),  # the same audio, so the same encoder
    ],
    ids=["convenience", "updates", "clusters", "learning_rate", "min_seconds"],
)
def test_a_change_repeats_what_depends_on_it(
    copy: Path, songs: Path, changed: dict[str, Any], expected: list[str]
) -> None:
    before = times_of(copy)
    pretrain([songs], copy, settings(**changed))
    assert made_anew(before, copy) == expected


@pytest.mark.parametrize(
    ("damaged", "how", "expected"),
    [
        ("pack/samples.i16", "cut", STEPS[2:-1]),
        ("targets-1/codes.npy", "gone", STEPS[3:-1]),
        ("round-1/encoder.safetensors", "cut", STEPS[4:-1]),
        ("round-2/encoder.json", "gone", ["round-2"]),
        ("encoder/encoder.safetensors", "cut", ["encoder"]),
        ("encoder/encoder.safetensors", "gone", ["encoder"]),
        ("encoder/encoder.json", "cut", ["encoder"]),
    ],
)
def test_what_was_damaged_is_made_again(
    copy: Path, songs: Path, damaged: str, how: str, expected: list[str]
) -> None:
    encoder, before = encoder_of(copy), times_of(copy)
    path = copy / damaged
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pretrain([songs], copy, settings())
    assert made_anew(before, copy) == expected
    assert encoder_of(copy) == encoder


# -- where it goes on


def interrupt_updates(monkeypatch: pytest.MonkeyPatch, number: int, after: int) -> None:
    """Press Ctrl-C in a round, after so many updates of it."""
    plain = train._Round._update

    def update(self: Any, batches: Any) -> dict[str, float]:
        if self.number == number and self.state.update == after:
            raise KeyboardInterrupt
        return plain(self, batches)

    monkeypatch.setattr(train._Round, "_update", update)


def interrupt_call(
    monkeypatch: pytest.MonkeyPatch, name: str, nth: int, module: ModuleType = stage
) -> None:
    """Press Ctrl-C at the n-th call of a function, as a module knows it."""
    plain = getattr(module, name)
    calls = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise KeyboardInterrupt
        return plain(*arguments, **named)

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("where", ["rounds", "targets", "saving", "finish", "first", "second"])
def test_a_killed_training_ends_as_an_undisturbed_one(
    songs: Path, finished: Path, tmp_path: Path, where: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        match where:
            case "rounds":
                interrupt_call(patch, "train_round", 2)
            case "targets":
                interrupt_call(patch, "write_targets", 2, prepare)
            case "saving":
                interrupt_call(patch, "save_encoder", 1)
            case "finish":
                interrupt_call(patch, "save_encoder", 3)
            case "first":
                interrupt_updates(patch, number=0, after=3)
            case "second":
                interrupt_updates(patch, number=1, after=3)
        with pytest.raises(KeyboardInterrupt):
            pretrain([songs], tmp_path / "out", settings())
    assert not (tmp_path / "out" / "encoder").exists()
    assert not (tmp_path / "out" / "metrics.json").exists()
    before = times_of(tmp_path / "out")
    metrics = pretrain([songs], tmp_path / "out", settings())
    assert encoder_of(tmp_path / "out") == encoder_of(finished)
    assert not list((tmp_path / "out").glob("*.partial"))
    undisturbed = json.loads((finished / "metrics.json").read_text())
    assert {**metrics, "seconds_total": 0} == {**undisturbed, "seconds_total": 0}
    if where in ("rounds", "targets", "second"):
        assert "round-1" not in made_anew(before, tmp_path / "out")
    if where == "second":  # it went on from the checkpoint of update 2
        updates = [row["update"] for row in read_jsonl(tmp_path / "out" / "round-2" / "log.jsonl")]
        assert updates == [2, 4, 4]


def test_no_time_is_enough_to_prepare(songs: Path, tmp_path: Path) -> None:
    with pytest.raises(train.Unfinished):
        pretrain([songs], tmp_path / "out", settings(), deadline=time.monotonic())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*STEPS[:3], ".lock"}


def test_pieces_up_to_a_checkpoint(songs: Path, finished: Path, tmp_path: Path) -> None:
    """As if the time were up at every checkpoint but those at the end of a round."""

    def stop(*_: Any) -> None:
        raise train.Unfinished

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "check_time", stop)
        for _ in range(3):  # updates 2 and 4 of the first round, 2 of the second
            with pytest.raises(train.Unfinished):
                pretrain([songs], tmp_path / "out", settings())
        pretrain([songs], tmp_path / "out", settings())
    assert encoder_of(tmp_path / "out") == encoder_of(finished)


def test_on_from_an_encoder(songs: Path, tmp_path: Path) -> None:
    """Its shape and its weights are those at the start, whatever the settings say of a network."""
    shape = TINY.model_copy(update={"feed_forward_dim": 48})
    start = tmp_path / "start"
    save_encoder(start, tiny_network(shape, seed=3), {})
    slow = settings(rounds=ROUNDS[:1], learning_rate=1e-6)
    pretrain([songs], tmp_path / "out", slow, start)
    trained = load_network(tmp_path / "out" / "encoder")
    assert trained.config == shape
    for name, value in load_network(start).state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, atol=1e-3, rtol=1e-2)
    # Another encoder to start from makes the rounds anew, and nothing before them.
    before = times_of(tmp_path / "out")
    save_encoder(start, tiny_network(shape, seed=4), {})
    pretrain([songs], tmp_path / "out", slow, start)
    assert made_anew(before, tmp_path / "out") == ["round-1", "encoder"]


def test_deeper_than_the_encoder_it_starts_from(songs: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    save_encoder(start, tiny_network(), {})
    rounds = (TargetRound(targets=TINY.blocks, clusters=4, updates=2),)  # a block that is new
    deeper = settings(rounds=rounds, added_blocks=1)
    pretrain([songs], tmp_path / "out", deeper, start)
    assert load_network(tmp_path / "out" / "encoder").config.blocks == TINY.blocks + 1
    with pytest.raises(UserError, match=r"pretrain\.added_blocks: there is no --start"):
        pretrain([songs], tmp_path / "other", deeper)


def test_a_random_start_is_that_of_the_seed(finished: Path, songs: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    slow = {"rounds": ROUNDS[:1], "learning_rate": 1e-7}
    weights = []
    for seed in (0, 1):
        torch.rand(3)
        out = tmp_path / str(seed)
        pretrain([songs], out, settings(**slow, seed=seed))
        weights.append(load_network(out / "encoder").projection.weight)
    assert not torch.allclose(weights[0], weights[1], atol=1e-2)
    with torch.random.fork_rng(devices=[]):
        untrained = stage._untrained(settings().pretrain, None)
    torch.testing.assert_close(weights[0], untrained.projection.weight, atol=1e-3, rtol=1e-2)


# -- the command


def test_the_command(songs: Path, finished: Path, tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(json.dumps(settings().model_dump(mode="json")), encoding="utf-8")
    command = ["pretrain", "--audio", str(songs), "--out", str(tmp_path / "out")]
    command += ["--config", str(config)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert f"encoder: {tmp_path / 'out' / 'encoder'}" in result.output.splitlines()
    assert "updates: 10" in result.output
    assert encoder_of(tmp_path / "out") == encoder_of(finished)
    on = [*command, "--start", str(finished / "encoder"), "--set", "pretrain.seed=1"]
    assert CliRunner().invoke(app, on).exit_code == 0
    assert encoder_of(tmp_path / "out") != encoder_of(finished)


def test_too_little_audio(tmp_path: Path) -> None:
    manifest = write_songs(tmp_path, n_train=9, n_test=9)
    with pytest.raises(UserError, match="9 utterances of split train are left") as caught:
        pretrain([manifest], tmp_path / "out", settings())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "pack").exists()


def test_when_the_loss_fails_the_last_good_network_can_be_gone_on_from(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def fails(
        network: Any, pack: Any, targets: Any, config: Any, number: int, folder: Path, *rest: Any
    ) -> None:
        seen.update(network.state_dict())
        weights = {f"network.{name}": value for name, value in seen.items()}
        save_checkpoint(folder / train.CHECKPOINT_NAME, {"model": weights})
        raise train.NotFinite("the loss is not a number; lower pretrain.learning_rate")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(stage, "train_round", fails)
        with pytest.raises(UserError, match=r"learning_rate, and go on .*--start .*last-good"):
            pretrain([songs], out, settings())
    kept = load_network(out / "last-good").state_dict()
    for name, value in seen.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-3, atol=1e-3)
    pretrain([songs], tmp_path / "next", settings(), start=out / "last-good")
