"""A run that is killed, or finds the disk full, goes on and ends as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_run import content, tiny_config, write_corpus

from wav2vec_u.pipeline import Pipeline
from wav2vec_u.stages import STAGES

HELPERS = Path(__file__).parents[1] / "helpers"
NAMES = [stage.name for stage in STAGES]
VARYING = ("seconds_", "peak_rss_mb")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(corpus: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    out = corpus / "undisturbed"
    audio, text = corpus / "manifest.tsv", corpus / "text.txt"
    metrics = Pipeline(tiny_config(), audio, text, "en", out, force=True).run()
    return content(out), metrics


def attempts(what: str, corpus: Path, out: Path) -> list[dict[str, Any]]:
    out.mkdir()
    command = [sys.executable, str(HELPERS / "kill_chain.py"), what, str(corpus), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_same_result(out: Path, undisturbed: tuple[dict[str, bytes], dict[str, Any]]) -> None:
    made, metrics = undisturbed
    again = content(out)
    assert again.keys() == made.keys()
    assert [name for name in made if again[name] != made[name]] == []
    found = json.loads((out / "metrics.json").read_text())
    kept = {key: value for key, value in metrics.items() if not key.startswith(VARYING)}
    assert {key: value for key, value in found.items() if not key.startswith(VARYING)} == kept


def test_killed_in_every_stage(
    corpus: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], dict[str, Any]]
) -> None:
    out = tmp_path / "out"
    reports = attempts("kill", corpus, out)
    assert {report["name"] for report in reports} == {*NAMES, "undisturbed"}
    for report in reports[:-1]:
        assert report["ended"] == -9, report
        assert report["stands"] == NAMES[: NAMES.index(report["name"])], report
    assert reports[-1]["ended"] == 0
    assert_same_result(out, undisturbed)


def test_a_full_disk_in_every_place(
    corpus: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], dict[str, Any]]
) -> None:
    """No file may grow over a limit, and the limit rises: the run fails later and later."""
    out = tmp_path / "out"
    reports = attempts("limit", corpus, out)
    *limited, last = reports
    for report in limited:
        assert report["ended"] == 2, report
        assert "the disk is full" in report["said"]
        assert "same command again" in report["said"]
        assert "\n" not in report["said"]
    progress = [len(report["stands"]) for report in reports]
    assert progress == sorted(progress)
    assert len(set(progress)) > 2, "the limits were hit in one place alone"
    assert last["ended"] == 0
    assert_same_result(out, undisturbed)
