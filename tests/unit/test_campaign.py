"""The pre-training campaign: what it hears, and files that survive being cut up and sent."""

from __future__ import annotations

import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from speaking import take_on

from wav2vec_u.encoder.checkpoint import WEIGHTS, load_description, load_network, save_encoder
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.pretrain.stage import pretrain
from wav2vec_u.pretrain.train import LOG_NAME, Unfinished
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import pretrain_campaign as campaign  # noqa: E402
from campaign.chunks import _group, pack, unpack  # noqa: E402
from campaign.recordings import (  # noqa: E402
    Clip,
    gather,
    read_unpacked,
    write_manifests,
    write_tones,
)
from campaign.shards import join, split  # noqa: E402
from campaign.sizes import READERS, SIZES, TEST, with_speech  # noqa: E402

SECRET = "unspeakable"
KIB = 1 << 10
CPU_STEP = SIZES["cpu"].steps[0]
TEST_STEP = TEST.steps[0]


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Three corpora, of which two are allowed, and every transcript holds a secret."""
    rng = np.random.default_rng(0)
    for corpus, count in (
        ("speechocean762_en", 6),
        ("rhasspy_kerstin_de", 5),
        ("alffa_amharic", 4),
    ):
        folder = tmp_path / "corpora" / corpus
        (folder / "audio").mkdir(parents=True)
        lines = ["path\tspeaker\tseconds\tsplit\ttext"]
        for number in range(count):
            name = f"audio/{number:05d}.wav"
            samples = 0.1 * rng.standard_normal(int(rng.integers(8_000, 16_000)))
            soundfile.write(folder / name, samples, 16_000)
            part = "test" if number == 1 else "train"
            lines.append(f"{name}\tana\t0.5\t{part}\t{SECRET}")
        (folder / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "corpora"


def bytes_of(clips: list[Clip]) -> dict[str, bytes]:
    return {clip.name: clip.audio.read_bytes() for clip in clips}


def everything_under(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


# What is heard


def test_only_training_recordings_of_allowed_corpora(
    corpora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [clip.name for clip in gather(corpora)]
    kerstin = [f"rhasspy_kerstin_de/audio/{number:05d}.wav" for number in (0, 2, 3, 4)]
    ocean = [f"speechocean762_en/audio/{number:05d}.wav" for number in (0, 2, 3, 4, 5)]
    assert names == kerstin + ocean
    assert "alffa_amharic: left out (said to be MIT" in capsys.readouterr().out


def test_a_corpus_that_nobody_looked_at_is_left_out(corpora: Path) -> None:
    (corpora / "speechocean762_en").rename(corpora / "found_somewhere")
    assert {clip.speaker for clip in gather(corpora)} == {"rhasspy_kerstin_de:ana"}


def test_no_corpora(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds none of the corpora"):
        gather(tmp_path)


def test_transcripts_are_left_behind(corpora: Path, tmp_path: Path) -> None:
    assert SECRET.encode() in everything_under(corpora)
    clips = gather(corpora)
    write_manifests(clips, tmp_path, 2)
    chunks = pack(clips, tmp_path / "chunks", 60 * KIB)
    unpack(chunks, tmp_path / "unpacked")
    for folder in ("chunks", "unpacked"):
        assert SECRET.encode() not in everything_under(tmp_path / folder)
    for manifest in tmp_path.glob("*.tsv"):
        assert SECRET not in manifest.read_text(encoding="utf-8")


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_manifests_hold_every_clip_once_and_in_order(
    corpora: Path, tmp_path: Path, count: int
) -> None:
    clips = gather(corpora)
    manifests = write_manifests(clips, tmp_path, count)
    rows = [
        dict(zip(("id", "audio", "speaker", "split"), line.split("\t"), strict=True))
        for manifest in manifests
        for line in manifest.read_text(encoding="utf-8").splitlines()[1:]
    ]
    assert [row["id"] for row in rows] == [clip.name for clip in clips]
    assert [row["audio"] for row in rows] == [str(clip.audio) for clip in clips]
    assert {row["split"] for row in rows} == {"train"}
    if count <= 3:
        assert len(manifests) == count


# Chunks


def test_chunks_hold_every_byte_and_keep_to_their_size(corpora: Path, tmp_path: Path) -> None:
    clips = gather(corpora)
    chunks = pack(clips, tmp_path / "chunks", 60 * KIB)
    assert len(chunks) > 2
    assert all(chunk.stat().st_size <= 60 * KIB for chunk in chunks)
    assert unpack(chunks, tmp_path / "unpacked") == []
    unpacked = read_unpacked(tmp_path / "unpacked")
    assert bytes_of(unpacked) == bytes_of(clips)
    assert [(clip.name, clip.speaker) for clip in unpacked] == [
        (clip.name, clip.speaker) for clip in clips
    ]


def test_equal_recordings_give_equal_chunks(corpora: Path, tmp_path: Path) -> None:
    first = pack(gather(corpora), tmp_path / "first", 60 * KIB)
    for path in corpora.rglob("*.wav"):
        path.touch()
    second = pack(gather(corpora), tmp_path / "second", 60 * KIB)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_chunks_come_in_any_order_and_repeatedly(corpora: Path, tmp_path: Path) -> None:
    clips = gather(corpora)
    chunks = pack(clips, tmp_path / "chunks", 60 * KIB)
    out = tmp_path / "unpacked"
    last = len(chunks)
    assert unpack([chunks[-1]], out) == list(range(1, last))
    with pytest.raises(UserError, match="unpack all chunks first"):
        read_unpacked(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}
    assert unpack([chunks[-1], *chunks[1:]], out) == [1]
    assert unpack(chunks[:1], out) == []
    # What a training goes on from is not touched again.
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert [clip.name for clip in read_unpacked(out)] == [clip.name for clip in clips]


def test_a_recording_that_was_damaged_is_mended(corpora: Path, tmp_path: Path) -> None:
    clips = gather(corpora)
    chunks = pack(clips, tmp_path / "chunks", KIB * KIB)
    unpack(chunks, tmp_path / "unpacked")
    (tmp_path / "unpacked" / clips[0].name).write_bytes(b"cut")
    unpack(chunks, tmp_path / "unpacked")
    assert bytes_of(read_unpacked(tmp_path / "unpacked")) == bytes_of(clips)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no_tar"])
def test_a_damaged_chunk_is_named(corpora: Path, tmp_path: Path, damage: str) -> None:
    (chunk,) = pack(gather(corpora), tmp_path, KIB * KIB)
    content = bytearray(chunk.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "empty":
        content.clear()
    else:
        content = bytearray(b"no tar " * 1_000)
    chunk.write_bytes(content)
    with pytest.raises(UserError, match=r"audio-01-of-01\.tar: is damaged; fetch it again"):
        unpack([chunk], tmp_path / "unpacked")
    assert not (tmp_path / "unpacked" / "manifest.tsv").exists()


def test_chunks_of_two_packings_do_not_mix(corpora: Path, tmp_path: Path) -> None:
    clips = gather(corpora)
    small = pack(clips, tmp_path / "small", 60 * KIB)
    large = pack(clips, tmp_path / "large", KIB * KIB)
    others = pack(clips[1:], tmp_path / "others", KIB * KIB)
    unpack(small[:1], tmp_path / "unpacked")
    with pytest.raises(UserError, match="belongs to another packing"):
        unpack(large, tmp_path / "unpacked")
    unpack(large, tmp_path / "again")
    with pytest.raises(UserError, match="belongs to another packing"):
        unpack(others, tmp_path / "again")


@pytest.mark.parametrize("name", ["../outside.wav", "/tmp/outside.wav"])
def test_a_chunk_writes_nothing_outside(corpora: Path, tmp_path: Path, name: str) -> None:
    clip = replace(gather(corpora)[0], name=name)
    (chunk,) = pack([clip], tmp_path / "chunks", KIB * KIB)
    with pytest.raises(UserError, match="leads out of the folder"):
        unpack([chunk], tmp_path / "unpacked")
    assert not (tmp_path / "outside.wav").exists()


def test_a_recording_larger_than_a_chunk(corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is larger than a chunk may be; raise --max-mib"):
        pack(gather(corpora), tmp_path, 20 * KIB)


@given(sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=60), spare=st.integers(0, 4_000))
@settings(max_examples=30, deadline=None)
def test_groups_fit_and_keep_the_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], spare: int
) -> None:
    folder = tmp_path_factory.mktemp("group")
    clips = []
    for number, size in enumerate(sizes):
        path = folder / str(number)
        path.write_bytes(bytes(size))
        clips.append(Clip(f"corpus/{number}", path, "corpus:é"))
    most = 18 * KIB + spare
    groups = _group(clips, most)
    assert [clip for group in groups for clip in group] == clips
    for chunk in pack(clips, folder / "chunks", most):
        assert chunk.stat().st_size <= most
        with tarfile.open(chunk) as tar:
            assert len(tar.getnames()) > 2


# Shards


def test_shards_join_into_the_same_file(tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    save_encoder(encoder, SpeechNetwork(TEST_STEP.config.pretrain.network), {"made": "for a test"})
    paths = split(encoder, tmp_path / "shards", 20 * KIB)
    assert len(paths) > 2
    assert all(path.stat().st_size <= 20 * KIB for path in paths)
    join(tmp_path / "shards", tmp_path / "joined")
    assert everything_under(tmp_path / "joined") == everything_under(encoder)
    assert load_description(tmp_path / "joined")["info"] == {"made": "for a test"}


@pytest.mark.parametrize("damage", ["missing", "flipped", "index"])
def test_damaged_shards_make_no_encoder(tmp_path: Path, damage: str) -> None:
    encoder = tmp_path / "encoder"
    save_encoder(encoder, SpeechNetwork(TEST_STEP.config.pretrain.network), {})
    paths = split(encoder, tmp_path / "shards", 20 * KIB)
    broken = tmp_path / "shards" / "shards.json" if damage == "index" else paths[1]
    if damage == "missing":
        broken.unlink()
    else:
        content = bytearray(broken.read_bytes())
        content[3] ^= 1
        broken.write_bytes(content)
    with pytest.raises(UserError, match=f"{broken.name}: .*fetch it"):
        join(tmp_path / "shards", tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


# Training


class Clock(SimpleNamespace):
    """Time that passes by a second whenever somebody looks."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


def test_the_sizes_keep_to_what_ships() -> None:
    for size in SIZES.values():
        added = sum(step.config.pretrain.added_blocks for step in size.steps)
        shape = size.steps[0].config.pretrain.network
        network = SpeechNetwork(shape.model_copy(update={"blocks": shape.blocks + added}))
        parameters = sum(weight.numel() for weight in network.parameters())
        assert parameters <= 25e6
        assert 2 * parameters <= 48e6  # half precision; the package has room for 50 MB


def test_the_cpu_size_is_the_default_network_and_goes_on_with_two_voices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = SIZES["cpu"]
    assert size.steps[0].config.pretrain.network == campaign.RunConfig().pretrain.network
    clips = [
        Clip(f"{corpus}/audio/0.opus", tmp_path / "0.opus", "a")
        for corpus in ("speechocean762_en", "rhasspy_kathleen_en", "rhasspy_kerstin_de")
    ]
    (tmp_path / "0.opus").write_bytes(b"0")
    heard: dict[str, Any] = {}

    def pretrain(manifests: list[Path], out: Path, config: Any, **options: Any) -> None:
        text = "".join(manifest.read_text(encoding="utf-8") for manifest in manifests)
        heard.update(text=text, config=config, **options)

    monkeypatch.setattr(campaign, "pretrain", pretrain)
    monkeypatch.setattr(campaign, "_prepare", lambda *_: None)
    for number, step in enumerate(size.steps):
        campaign._take(step, tmp_path / f"step-{number}", clips, tmp_path / "encoder", None)
        assert "kathleen" in heard["text"] and "kerstin" in heard["text"]
        assert ("speechocean" in heard["text"]) == (number == 0)
        assert heard["start"] == tmp_path / "encoder"
        assert heard["config"] == step.config


def test_texts_are_read_by_their_own_voices_and_by_others(tmp_path: Path) -> None:
    for name in ("en_books.txt", "de_books.txt", "xx_books.txt"):
        (tmp_path / name).write_text("A line\n", encoding="utf-8")
    config = with_speech(CPU_STEP.config, tmp_path)
    read = [(script.file.name, script.voices[0]) for script in config.pretrain.spoken.scripts]
    assert read == [
        ("de_books.txt", "de"),
        ("de_books.txt", "latin"),
        ("en_books.txt", "en-us"),
        ("en_books.txt", "latin"),
    ]
    # Nothing else changes, and without texts there is no speech.
    without = config.pretrain.model_copy(update={"spoken": CPU_STEP.config.pretrain.spoken})
    assert without == CPU_STEP.config.pretrain
    assert not CPU_STEP.config.pretrain.spoken.scripts


def test_all_readers_have_a_voice() -> None:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed")
    take_on([reader for readers in READERS.values() for reader in readers])


def test_a_folder_without_texts_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no text such as en_\*\.txt"):
        with_speech(CPU_STEP.config, tmp_path)


def test_the_test_size_makes_an_encoder_that_has_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # No time at all: what can be prepared is, and nothing is learned.
    command = ["train", "--size", "test", "--out", str(tmp_path)]
    assert campaign.main([*command, "--minutes", "0"]) == campaign.UNFINISHED
    assert not (tmp_path / "encoder").exists()
    assert campaign.main(command) == 0
    claim = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert claim["name"] == "pretrain_campaign_test"
    assert (claim["finished"], claim["pieces"]) == (True, 2)
    assert [step["updates"] for step in claim["steps"]] == [120, 40]
    for place, step in enumerate(claim["steps"], start=1):
        folder = tmp_path / f"step-{place}"
        assert step["hours"] == pytest.approx(30 * 2 / 3600, abs=0.001)
        for number, (first, last) in enumerate(step["validation_by_round"], start=1):
            assert last < first - 0.1
            log = list(read_jsonl(folder / f"round-{number}" / LOG_NAME))
            assert last == log[-1]["validation_loss"]
        network = load_network(folder / "encoder")
        assert step["parameters"] == sum(weight.numel() for weight in network.parameters())
        assert step["bytes"] == (folder / "encoder" / WEIGHTS).stat().st_size
    # What comes out is the last step's, a block deeper than the first's.
    assert network.config.blocks == TEST_STEP.config.pretrain.network.blocks + 1
    assert everything_under(tmp_path / "encoder") == everything_under(folder / "encoder")


def test_pieces_make_the_same_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = write_manifests(write_tones(tmp_path / "tones"), tmp_path, 1)
    rounds = [
        round_.model_copy(update={"updates": 15}) for round_ in TEST_STEP.config.pretrain.rounds
    ]
    shorter = {"rounds": tuple(rounds), "checkpoint_every": 5, "log_every": 5, "validate_every": 15}
    config = TEST_STEP.config.model_copy(
        update={"pretrain": TEST_STEP.config.pretrain.model_copy(update=shorter)}
    )
    pretrain(manifests, tmp_path / "straight", config)
    clock = Clock()
    monkeypatch.setattr("wav2vec_u.pretrain.train.time", clock)
    pieces = 0
    while not (tmp_path / "pieces" / "encoder").exists():
        pieces += 1
        assert pieces < 30
        try:
            pretrain(manifests, tmp_path / "pieces", config, deadline=clock.now + 4)
        except Unfinished:
            continue
    assert pieces > 3
    straight = load_file(tmp_path / "straight" / "encoder" / WEIGHTS)
    in_pieces = load_file(tmp_path / "pieces" / "encoder" / WEIGHTS)
    assert straight.keys() == in_pieces.keys()
    assert all(bool((straight[name] == in_pieces[name]).all()) for name in straight)
    # Every update was made once.
    for number in (1, 2):
        log = read_jsonl(tmp_path / "pieces" / f"round-{number}" / LOG_NAME)
        updates = [line["update"] for line in log if "loss" in line]
        assert updates == [5, 10, 15]


def test_sizes_that_need_recordings_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert campaign.main(["train", "--size", "gpu", "--out", str(tmp_path)]) == campaign.USER_ERROR
    assert capsys.readouterr().err == "error: --size gpu: needs --corpora or --audio\n"


def test_the_commands_for_chunks_and_shards(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str | Path) -> int:
        return campaign.main([str(argument) for argument in arguments])

    chunks, unpacked = tmp_path / "chunks", tmp_path / "unpacked"
    assert run("pack", "--corpora", corpora, "--out", chunks, "--max-mib", "0.06") == 0
    first, *others = sorted(chunks.glob("*.tar"))
    assert run("unpack", first, "--out", unpacked) == campaign.UNFINISHED
    assert run("unpack", *others, "--out", unpacked) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["missing"] == []
    save_encoder(tmp_path / "encoder", SpeechNetwork(TEST_STEP.config.pretrain.network), {})
    assert run("split", tmp_path / "encoder", "--out", tmp_path / "shards") == 0
    assert run("join", tmp_path / "shards", "--out", tmp_path / "joined") == 0
    assert run("join", tmp_path / "chunks", "--out", tmp_path / "none") == campaign.USER_ERROR
