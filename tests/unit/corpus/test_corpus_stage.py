"""The stage: good recordings in, bad ones listed by reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wav2vec_u.config import CorpusConfig
from wav2vec_u.corpus import stage
from wav2vec_u.corpus.manifest import read_recordings
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl

CORPORA = Path(__file__).resolve().parents[4] / "shared" / "corpora"


@pytest.fixture
def work(tmp_path: Path) -> Work:
    folder = tmp_path / "work"
    folder.mkdir()
    return Work(folder)


def rejected(work: Work) -> dict[str, str]:
    rows = read_jsonl(work.folder / "rejected.jsonl")
    return {Path(row["what"]).name: row["reason"] for row in rows}


def test_bad_recordings_are_listed_and_the_good_ones_kept(files, work: Work) -> None:
    good = files.noise(2.0)
    for name in ["plain.wav", "two words.flac", 'say "hi".ogg', "emoji 🎤.opus", "sub/x.mp3"]:
        files.write(name, good)
    files.write("8k.wav", files.noise(2.0, 8_000), 8_000)
    files.write("stereo.wav", np.stack([good, good], axis=1))
    quiet_nan = good.copy()
    quiet_nan[31_000] = np.nan
    bad = {
        "nan.wav": files.write("nan.wav", quiet_nan, subtype="FLOAT"),
        "short.wav": files.write("short.wav", files.noise(0.01)),
        "silent.flac": files.write("silent.flac", np.zeros(32_000, np.float32)),
        "cut.wav": files.cut_off(files.write("cut.wav", good), 0.5),
        "empty.wav": files.folder / "empty.wav",
        "text.wav": files.folder / "text.wav",
        "talk.m4a": files.folder / "talk.m4a",
    }
    bad["empty.wav"].touch()
    bad["text.wav"].write_text("no sound at all\n" * 50)
    bad["talk.m4a"].write_bytes(b"\0\0\0\x20ftypM4A " * 20)

    stage.run(work, CorpusConfig(), files.folder)

    recordings = read_recordings(work.folder)
    assert [item.id for item in recordings] == sorted(
        ["plain", "two words", 'say "hi"', "emoji 🎤", "sub/x", "8k", "stereo"],
        key=lambda name: next(files.folder.glob(f"{name}.*")).as_posix(),
    )
    assert all(item.seconds == pytest.approx(2.0, abs=1e-3) for item in recordings)
    assert all(item.split == "train" and item.speaker is None for item in recordings)
    assert rejected(work) == {
        "nan.wav": "nan",
        "short.wav": "too_short",
        "silent.flac": "silent",
        "cut.wav": "truncated",
        "empty.wav": "empty",
        "text.wav": "not_audio",
        "talk.m4a": "not_audio",
    }
    assert work.counts["recordings"] == 7
    assert work.counts["hours"] == pytest.approx(14 / 3600, rel=1e-3)
    assert work.counts["rejected"] == {
        "nan": 1,
        "too_short": 1,
        "silent": 1,
        "truncated": 1,
        "empty": 1,
        "not_audio": 2,
    }
    json.dumps(work.counts)


def test_manifest_keeps_splits_and_speakers_and_never_transcripts(files, work: Work) -> None:
    for name in ("a.wav", "b.wav"):
        files.write(name, files.noise(1.0))
    manifest = files.folder / "manifest.tsv"
    manifest.write_text(
        "path\tspeaker\tseconds\tsplit\ttext\n"
        "a.wav\tanna\t1.0\ttest\tSECRETWORDS\nb.wav\t\t1.0\t\tSECRETWORDS\nc.wav\tx\t1\ttest\tx\n"
    )
    stage.run(work, CorpusConfig(held_out_fraction=1.0), manifest)
    first, second = read_recordings(work.folder)
    assert (first.id, first.split, first.speaker) == ("a", "test", "anna")
    assert (second.id, second.split, second.speaker) == ("b", "train", None)
    assert rejected(work) == {"c.wav": "missing"}
    for path in work.folder.iterdir():
        assert "SECRETWORDS" not in path.read_text()


def test_held_out_share_depends_on_the_id_alone() -> None:
    names = [f"speaker/{number}" for number in range(4_000)]
    once = [stage.split_of(name, 0.1) for name in names]
    assert once == [stage.split_of(name, 0.1) for name in names]
    assert 0.08 < once.count("test") / len(names) < 0.12
    more = [stage.split_of(name, 0.3) for name in names]
    assert all(b == "test" for a, b in zip(once, more, strict=True) if a == "test")


def test_held_out_recordings_of_a_folder(files, work: Work) -> None:
    for number in range(12):
        files.write(f"{number}.wav", files.noise(0.5))
    stage.run(work, CorpusConfig(held_out_fraction=0.5), files.folder)
    splits = {item.id: item.split for item in read_recordings(work.folder)}
    assert splits == {name: stage.split_of(name, 0.5) for name in splits}
    assert set(splits.values()) == {"train", "test"}


def test_nothing_usable_is_one_clear_line(files, work: Work) -> None:
    files.write("a.wav", np.zeros(16_000, np.float32))
    files.write("b.wav", files.noise(0.05))
    with pytest.raises(UserError) as caught:
        stage.run(work, CorpusConfig(), files.folder)
    message = str(caught.value)
    assert "\n" not in message
    assert "none of its 2 recordings" in message
    assert "1 silent" in message and "1 too_short" in message
    assert rejected(work) == {"a.wav": "silent", "b.wav": "too_short"}


def test_missing_and_empty_folders(files, work: Work) -> None:
    with pytest.raises(UserError, match="no such folder"):
        stage.run(work, CorpusConfig(), files.folder)
    files.folder.mkdir()
    with pytest.raises(UserError, match="holds no recordings"):
        stage.run(work, CorpusConfig(), files.folder)


def test_checking_in_threads_keeps_the_order(files, work: Work, monkeypatch) -> None:
    monkeypatch.setattr(stage, "_BATCH", 3)
    for number in range(10):
        files.write(f"{number}.wav", files.noise(0.4 + 0.01 * number))
    stage.run(work, CorpusConfig(), files.folder)
    recordings = read_recordings(work.folder)
    assert [item.id for item in recordings] == [str(number) for number in range(10)]
    assert [item.seconds for item in recordings] == pytest.approx(
        [0.4 + 0.01 * number for number in range(10)]
    )


@pytest.mark.corpora
@pytest.mark.skipif(not CORPORA.is_dir(), reason="no real recordings beside the checkout")
def test_a_real_corpus_is_taken_in_whole(work: Work, tmp_path: Path) -> None:
    corpus = CORPORA / "speechocean762_en"
    lines = (corpus / "manifest.tsv").read_text(encoding="utf-8").splitlines()
    short = tmp_path / "manifest.jsonl"
    rows = [line.split("\t") for line in lines[1:200]]
    short.write_text(
        "\n".join(json.dumps({"audio": str(corpus / row[0]), "split": row[3]}) for row in rows)
    )
    stage.run(work, CorpusConfig(), short)
    seconds = [item.seconds for item in read_recordings(work.folder)]
    assert seconds == pytest.approx([float(row[2]) for row in rows], abs=0.011)
