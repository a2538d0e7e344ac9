"""The doctor reads a run from disk, finished or not, whole or damaged."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from wav2vec_u.config import RunConfig, load_config
from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.hypotheses import FILE_NAME as HYPOTHESES_NAME
from wav2vec_u.decode.hypotheses import Hypothesis
from wav2vec_u.doctor import Finding, diagnose, print_findings
from wav2vec_u.features.store import FrameStoreWriter
from wav2vec_u.runtime.artifact import create
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_jsonl
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStoreWriter
from wav2vec_u.silence.speech import Utterance, write_speech

RATE = 50.0  # frames a second


def make_run(
    run_dir: Path,
    *,
    frames_a_segment: int,
    frames: str = "noise",
    boundaries: str = "viterbi",
    method: str = "decipherment",
) -> None:
    """Write a run with finished features and segments only."""
    run_dir.mkdir()
    config = load_config(None, segments={"boundaries": boundaries}, matching={"method": method})
    write_json(run_dir / "run.json", {"config": config.model_dump(mode="json")})
    rng = np.random.default_rng(0)
    length = 40 * frames_a_segment
    utterances = [
        rng.normal(size=(length, 6)) if frames == "noise" else np.ones((length, 6))
        for _ in range(5)
    ]
    times = (np.arange(length) / RATE).astype(np.float32)
    with (
        create(
            run_dir / "features", stage="features", expected="x", config=config.features, inputs={}
        ) as work,
        FrameStoreWriter(work.folder, dim=6, frame_rate_hz=RATE, encoder="x") as writer,
    ):
        for number, item in enumerate(utterances):
            writer.append(
                f"u{number}",
                item.astype(np.float32),
                times,
                audio="a.wav",
                split="train",
                speaker=None,
            )
    starts = np.arange(0, length, frames_a_segment)
    bounds = np.stack([starts, starts + frames_a_segment], axis=1).astype(np.int32)
    with (
        create(
            run_dir / "segments", stage="segments", expected="x", config=config.segments, inputs={}
        ) as work,
        SegmentStoreWriter(work.folder, 6, RATE) as writer,
    ):
        for number, item in enumerate(utterances):
            codes = rng.integers(0, config.segments.clusters, size=len(starts)).astype(np.int32)
            segments = Segments(item[starts].astype(np.float32), codes, bounds)
            writer.append(f"u{number}", segments, times, split="train", speaker=None)


def level_of(findings: list[Finding], topic: str) -> str:
    return next(finding.level for finding in findings if finding.topic == topic)


def test_healthy_stages_pass_and_missing_ones_are_named(tmp_path: Path) -> None:
    make_run(tmp_path / "run", frames_a_segment=4)  # 12.5 Hz
    findings = diagnose(tmp_path / "run")
    for topic in ("segment rate", "clusters", "frame dimensions", "frames differ"):
        assert level_of(findings, topic) == "ok"
    missing = [f.topic for f in findings if f.message == "has not run yet"]
    assert missing == ["corpus", "silence", "text", "decode"]


def test_too_many_segments_a_second_are_found(tmp_path: Path) -> None:
    make_run(tmp_path / "run", frames_a_segment=2)  # 25 Hz
    assert level_of(diagnose(tmp_path / "run"), "segment rate") == "stop"


@pytest.mark.parametrize(("method", "level"), [("synthetic", None), ("gan", "stop")])
def test_frames_as_segments_are_too_many_for_what_does_not_read_frames(
    tmp_path: Path, method: str, level: str | None
) -> None:
    make_run(tmp_path / "run", frames_a_segment=1, boundaries="frames", method=method)
    levels = {finding.topic: finding.level for finding in diagnose(tmp_path / "run")}
    assert levels.get("segment rate") == level
    assert "clusters" not in levels


def test_constant_frames_are_found(tmp_path: Path) -> None:
    make_run(tmp_path / "run", frames_a_segment=4, frames="ones")
    assert level_of(diagnose(tmp_path / "run"), "frame dimensions") == "stop"


def test_damaged_stage_becomes_a_finding(tmp_path: Path) -> None:
    make_run(tmp_path / "run", frames_a_segment=4)
    (tmp_path / "run" / "segments" / "codes.npy").write_bytes(b"\x93NUMPY")
    assert level_of(diagnose(tmp_path / "run"), "segments") == "stop"


@pytest.mark.parametrize("content", [None, "{", json.dumps({"config": {"no_such_key": 1}})])
def test_a_folder_that_is_no_run_is_a_users_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match="run"):
        diagnose(tmp_path)


def test_missing_folder_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        diagnose(tmp_path / "nowhere")


def test_findings_are_printed_as_they_are() -> None:
    console = Console(file=io.StringIO(), width=100)
    findings = [Finding("ok", "a", "fine"), Finding("stop", "b", "[bold]x[/bold]", "do [this]")]
    print_findings(findings, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]x[/bold]" in printed
    assert "→ do [this]" in printed
    assert "2 checks, 0 warnings, 1 reasons to stop" in printed


@pytest.mark.parametrize(("expected_hz", "level"), [(None, "ok"), (12.0, "ok"), (15.0, "warn")])
def test_phones_heard_are_held_against_those_expected(
    tmp_path: Path, expected_hz: float | None, level: str
) -> None:
    run_dir = tmp_path / "run"
    make_run(run_dir, frames_a_segment=1)
    audio = str(tmp_path / "a.wav")
    utterance = Utterance("a#0", "a", audio, "train", None, 0.0, 10.0, ((0.0, 10.0),))
    spans = tuple(PhoneSpan("a", n / 12, (n + 1) / 12) for n in range(120))  # 12 a second
    hypothesis = Hypothesis("a#0", "a", "train", spans, 0.0)
    with create(
        run_dir / "silence", stage="silence", expected="x", config=RunConfig(), inputs={}
    ) as work:
        write_speech(work.folder, [utterance])
    with create(
        run_dir / "decode", stage="decode", expected="x", config=RunConfig(), inputs={}
    ) as work:
        write_jsonl(work.folder / HYPOTHESES_NAME, [hypothesis.as_row()])
    with create(
        run_dir / "matching", stage="matching", expected="x", config=RunConfig(), inputs={}
    ) as work:
        if expected_hz is not None:
            work.counts["expected_phone_rate_hz"] = expected_hz
    assert level_of(diagnose(run_dir), "phone rate") == level
