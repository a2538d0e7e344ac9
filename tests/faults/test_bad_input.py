"""What users and disks do wrong is answered in one line, or mended by running again."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from filelock import FileLock
from tiny_run import RATE, content, tiny_config, write_corpus

from wav2vec_u.config import load_config
from wav2vec_u.pipeline import LOCK_FILE, Pipeline
from wav2vec_u.runtime import files
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.stages import STAGES

NAMES = [stage.name for stage in STAGES]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def finished(corpus: Path) -> Path:
    run(corpus, corpus / "finished")
    return corpus / "finished"


def run(corpus: Path, out: Path, until: str | None = None, **changed: Any) -> dict[str, Any]:
    settings = {
        "config": tiny_config(),
        "audio": corpus / "manifest.tsv",
        "text": corpus / "text.txt",
        "language": "en",
        "force": True,
        **changed,
    }
    return Pipeline(out=out, **settings).run(until=until)


def refused(corpus: Path, out: Path, said: str, **changed: Any) -> None:
    """Assert that a run ends with one line that says something."""
    with pytest.raises(UserError, match=said) as caught:
        run(corpus, out, **changed)
    assert "\n" not in str(caught.value)


# -- what users get wrong


@pytest.mark.parametrize("given", ["nowhere", "empty", "text.txt", "r00.wav"])
def test_recordings_that_are_none(corpus: Path, tmp_path: Path, given: str) -> None:
    (corpus / "empty").mkdir(exist_ok=True)
    refused(corpus, tmp_path / "out", given, audio=corpus / given)
    assert not (tmp_path / "out" / "corpus").exists()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "does not exist"),
        (b"", "no line with a word"),
        (b"\n  \n\n", "no line with a word"),
        (b"1234 !!! 99\n" * 5, "no sentence is left|no line with a word"),
        ("größe".encode("latin-1"), "is not UTF-8"),
    ],
)
def test_text_that_is_none(corpus: Path, tmp_path: Path, written: bytes | None, said: str) -> None:
    text = tmp_path / "given.txt"
    if written is not None:
        text.write_bytes(written)
    refused(corpus, tmp_path / "out", rf"given\.txt.*({said})", text=text, until="text")


def test_a_missing_text_is_noticed_before_any_work(corpus: Path, tmp_path: Path) -> None:
    refused(corpus, tmp_path / "out", "does not exist", text=tmp_path / "missing.txt")
    assert not (tmp_path / "out" / "corpus").exists()


def test_a_wrong_language_is_noticed_before_any_work(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("phonemizer")
    config = tiny_config(text={"phonemizer": "espeak"})
    refused(corpus, tmp_path / "out", "no voice 'klingonish'", config=config, language="klingonish")
    refused(corpus, tmp_path / "out", "did you mean de?", config=config, language="german")
    assert not (tmp_path / "out" / "corpus").exists()


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("features", {"device": "cuda:99"}, "cuda:99"),
        ("matching", {"device": "toaster"}, "toaster"),
        ("text", {"phonemizer": "lexicon"}, "text.lexicon"),
        ("text", {"phonemizer": "lexicon", "lexicon": "/no/such/lexicon"}, "/no/such/lexicon"),
    ],
)
def test_settings_that_cannot_be_met_are_noticed_before_any_work(
    corpus: Path, tmp_path: Path, section: str, values: dict[str, Any], said: str
) -> None:
    refused(corpus, tmp_path / "out", said, config=tiny_config(**{section: values}))
    assert not (tmp_path / "out" / "corpus").exists()


def test_an_encoder_that_is_not_there(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(features={"encoder": "nobody/nothing"})
    refused(corpus, tmp_path / "out", "nobody/nothing", config=config, until="features")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("matchin: {seeds: 3}", "matchin"),
        ("matching: {seeds: 0}", "matching.seeds"),
        ("matching: {decipherment: {code: 3}}", "matching.decipherment.code"),
        ("- a list", "mapping"),
        ("a: [", "YAML"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, written: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(written, encoding="utf-8")
    with pytest.raises(UserError, match=rf"mine\.yaml.*{said}") as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_bad_recordings_are_left_out(corpus: Path, tmp_path: Path) -> None:
    """A few recordings that cannot be used cost nothing but themselves."""
    audio = tmp_path / "audio"
    audio.mkdir()
    for name in ("r00.wav", "r01.wav", "r02.wav"):
        shutil.copy(corpus / name, audio)
    (audio / "empty.wav").touch()
    (audio / "text.wav").write_text("no sound")
    soundfile.write(audio / "short.wav", [0.5] * 100, RATE)
    soundfile.write(audio / "silent.wav", [0.0] * RATE, RATE)
    # Three recordings are too few for more.
    config = tiny_config(selftrain={"method": "none"})
    metrics = run(corpus, tmp_path / "out", audio=audio, config=config)
    assert metrics["hours_audio"] > 0
    rejected = list(files.read_jsonl(tmp_path / "out" / "corpus" / "rejected.jsonl"))
    assert {Path(row["what"]).stem for row in rejected} == {"empty", "text", "short", "silent"}


# -- where it may not be written


def test_out_is_a_file(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    refused(corpus, tmp_path / "out", "is no folder")
    refused(corpus, tmp_path / "out" / "inside", "is no folder")


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that may not be written to, even by root: who gives up being root for the test."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid() if hasattr(os, "geteuid") else None
    if user is None:
        pytest.skip("needs POSIX permissions")
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    shutil.rmtree(folder)


def test_out_is_read_only(corpus: Path, read_only: Path) -> None:
    refused(corpus, read_only / "out", rf"{read_only}.*cannot be written")
    refused(corpus, read_only, rf"{read_only}.*cannot be written")


def test_the_disk_fills_up_while_renaming(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(path: Path, target: Path) -> Path:
        if path.name == "text.partial":
            raise full
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        refused(corpus, tmp_path / "out", "the disk is full")
    assert not (tmp_path / "out" / "text").exists()
    assert run(corpus, tmp_path / "out")["text_sentences"] == 300


# -- two runs, and the remains of one


def test_two_runs_in_one_folder(corpus: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    before = content(out)
    with FileLock(out / LOCK_FILE):
        refused(corpus, out, "another run works in this folder")
    assert content(out) == before
    run(corpus, out)


def test_the_lock_of_a_dead_process_is_taken_over(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("99999999")
    run(corpus, tmp_path, until="text")


# -- damaged artefacts


@pytest.mark.parametrize(
    "damaged",
    [
        "corpus/recordings.jsonl",
        "silence/speech.jsonl",
        "features/frames.npy",
        "features/stage.json",
        "segments/vectors.npy",
        "segments/segmenter.safetensors",
        "text/lm.arpa",
        "matching/generator.safetensors",
        "matching/stage.json",
        "graph/graph.npz",
        "graph/stage.json",
        "selftrain/mixtures.safetensors",
        "selftrain/model.json",
        "selftrain/stage.json",
        "decode/hypotheses.jsonl",
        "words/hypotheses.jsonl",
        "evaluate/metrics.json",
    ],
)
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_what_was_cut_short_or_taken_away_is_made_again(
    corpus: Path, finished: Path, tmp_path: Path, damaged: str, how: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / damaged
    if how == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2)
    run(corpus, out)
    assert content(out) == content(finished)
