"""The command line: verbs, formats, exit codes, and one line for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_run import tiny_config, write_corpus
from typer.testing import CliRunner, Result

from wav2vec_u import cli
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.runtime.errors import UserError


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    write_corpus(folder)
    config = tiny_config().model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def options(corpus: Path) -> list[str]:
    named = {"audio": "manifest.tsv", "text": "text.txt", "config": "config.yaml"}
    return [part for key, name in named.items() for part in (f"--{key}", str(corpus / name))]


@pytest.fixture(scope="module")
def run_dir(corpus: Path, options: list[str]) -> Path:
    out = corpus / "out"
    result = invoke("run", *options, "--lang", "en", "--out", out, "--force", "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert "phone error rate" in result.stdout
    assert "corpus" in result.stdout
    assert "44 recordings" in result.stdout
    assert (out / "report.html").exists()
    assert json.loads((out / "metrics.json").read_text())["seeds"] == 1
    return out


def test_a_run_goes_on_and_takes_settings(run_dir: Path, options: list[str]) -> None:
    common = [*options, "--lang", "en", "--out", str(run_dir), "--force", "--seeds", "1"]
    result = invoke("run", *common)
    assert result.exit_code == 0
    assert result.stdout.count("up to date") == 12
    result = invoke("run", *common, "--set", "evaluate.bootstrap_samples=7")
    assert result.exit_code == 0
    assert result.stdout.count("up to date") == 11
    record = json.loads((run_dir / "run.json").read_text())
    assert record["config"]["evaluate"]["bootstrap_samples"] == 7
    assert record["config"]["matching"]["seeds"] == 1


@pytest.mark.parametrize(
    ("verb", "made"),
    [("corpus", ["corpus"]), ("text", ["text"]), ("segments", ["corpus", "segments"])],
)
def test_verbs_of_stages(tmp_path: Path, options: list[str], verb: str, made: list[str]) -> None:
    result = invoke(verb, *options, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    for stage in made:
        assert (tmp_path / stage / "stage.json").exists()
    assert not (tmp_path / "matching").exists()


def test_later_verbs_run_up_to_their_stage(run_dir: Path, options: list[str]) -> None:
    for verb, count in (
        ("graph", 2),
        ("match", 6),
        ("selftrain", 8),
        ("decode", 9),
        ("words", 9),
        ("adapt", 11),
    ):
        result = invoke(verb, *options, "--lang", "en", "--out", run_dir, "--seeds", "1")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("up to date") == count


@pytest.mark.parametrize(
    ("name", "start", "suffix"),
    [
        ("text", "", ".txt"),
        ("json", "{", ".json"),
        ("srt", "1\n00:00:", ".srt"),
        ("vtt", "WEBVTT", ".vtt"),
        ("textgrid", 'File type = "ooTextFile"', ".TextGrid"),
    ],
)
def test_transcripts_in_every_format(
    run_dir: Path, corpus: Path, tmp_path: Path, name: str, start: str, suffix: str
) -> None:
    result = invoke("transcribe", run_dir, corpus / "r00.wav", "--format", name)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(start)
    assert len(result.stdout.split()) > 3
    files = [corpus / "r00.wav", corpus / "r01.wav"]
    result = invoke("transcribe", run_dir, *files, "--format", name, "--out", tmp_path / "new")
    assert result.exit_code == 0
    written = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert written == [f"r00{suffix}", f"r01{suffix}"]


def test_several_transcripts_in_one_stream(run_dir: Path, corpus: Path) -> None:
    files = [corpus / "r00.wav", corpus / "r01.wav"]
    alone = [invoke("transcribe", run_dir, path).stdout for path in files]
    both = invoke("transcribe", run_dir, *files).stdout
    assert both == "".join(f"{path}\t{line}" for path, line in zip(files, alone, strict=True))
    result = invoke("transcribe", run_dir, *files, "--format", "srt")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--out" in result.stderr
    result = invoke("transcribe", run_dir, files[0], files[0], "--out", run_dir / "new")
    assert result.exit_code == 2


def test_a_bad_file_does_not_keep_the_others(run_dir: Path, corpus: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound")
    result = invoke("transcribe", run_dir, bad, corpus / "r01.wav")
    assert result.exit_code == 2
    assert result.stdout.startswith(f"{corpus / 'r01.wav'}\t")
    assert "bad.wav" in result.stderr


def test_evaluate_report_and_doctor(run_dir: Path, corpus: Path) -> None:
    result = invoke("evaluate", run_dir, "--references", corpus / "manifest.tsv")
    assert result.exit_code == 0, result.output
    assert "phone error rate" in result.stdout
    (run_dir / "report.html").unlink()
    result = invoke("report", run_dir)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(run_dir / "report.html")
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "after self-training" in page
    result = invoke("doctor", run_dir)
    assert result.exit_code == 2, "so small a corpus is a reason to stop"
    assert "audio amount" in result.stdout


def test_doctor_of_the_installation() -> None:
    result = invoke("doctor")
    assert result.exit_code == 0
    for word in ("torch", "espeak", "device"):
        assert word in result.stdout


def test_demo_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from wav2vec_u.demo import run as demo

    called: list[Any] = []
    monkeypatch.setattr(demo, "run_demo", lambda *arguments: called.append(arguments))
    assert invoke("demo", "--out", tmp_path, "--seeds", "2").exit_code == 0
    assert called == [(tmp_path, 2)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--out", "{tmp}"], "--audio: give"),
        (["run", "--audio", "{tmp}/no", "--text", "{text}", "--out", "{tmp}"], "no: there is no"),
        (["run", "--out", "{tmp}", "--config", "{tmp}/no.yaml"], "no.yaml"),
        (["run", "--out", "{tmp}", "--set", "matching.gans.updates=1"], "matching.gans"),
        (["run", "--out", "{tmp}", "--set", "matching.seeds=many"], "matching.seeds"),
        (["run", "--out", "{tmp}", "--set", "matching.seeds"], "key.path=value"),
        (["run", "--out", "{tmp}", "--set", "text=["], "not valid YAML"),
        (["run", "--out", "{tmp}", "--set", "text=1", "--set", "text.seed=1"], "already set"),
        (["transcribe", "{tmp}", "{tmp}/a.wav"], "run.json"),
        (["transcribe", "{tmp}", "{tmp}/a.wav", "--format", "mp3"], "--format: mp3"),
        (["transcribe", "{tmp}", "{tmp}/a.wav", "--alternatives", "3"], "--alternatives: text"),
        (["evaluate", "{tmp}"], "run.json"),
        (["report", "{tmp}/no"], "no such folder"),
        (["doctor", "{tmp}"], "run.json"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, corpus: Path, arguments: list[str], said: str
) -> None:
    filled = [part.format(tmp=tmp_path, text=corpus / "text.txt") for part in arguments]
    result = invoke(*filled)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


def test_an_interrupted_run_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(self: Pipeline, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "run", interrupted)
    result = invoke("run", "--out", tmp_path)
    assert result.exit_code == 130
    assert "same command again" in result.stderr


def test_unexpected_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(self: Pipeline, **options: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Pipeline, "run", broken)
    result = invoke("run", "--out", tmp_path)
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def test_settings_nest() -> None:
    assert cli.parse_settings(["a.b.c=1", "a.b.d=[x, 2]", "e=null"]) == {
        "a": {"b": {"c": 1, "d": ["x", 2]}},
        "e": None,
    }
    with pytest.raises(UserError):
        cli.parse_settings(["=1"])


def test_a_real_process_answers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wav2vec_u", "run", "--out", str(tmp_path), "--audio", "no"]
    done = subprocess.run([*command, "--text", "no"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "there is no such folder" in done.stderr


def test_help_does_not_wait_for_torch() -> None:
    script = (
        "import sys, wav2vec_u, wav2vec_u.cli\n"
        "assert 'torch' not in sys.modules\n"
        "assert wav2vec_u.__version__ and 'Pipeline' in dir(wav2vec_u)\n"
        "from wav2vec_u import load_config\n"
        "assert load_config().language and 'torch' not in sys.modules\n"
        "from wav2vec_u import Recognizer, Pipeline\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
