"""The page is well formed and self-contained, shows what was planted, and survives damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_markup import parse

from wav2vec_u.config import CorpusConfig
from wav2vec_u.report import write_report
from wav2vec_u.report.charts import heat_map, line_chart, timeline
from wav2vec_u.report.sections import SECTIONS
from wav2vec_u.runtime.artifact import create
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_jsonl

EVIL = "a \"b\" <script>alert('x')</script> & 🎤.wav"


def stage(run_dir: Path, name: str, files: dict[str, Any], **counts: Any) -> None:
    with create(run_dir / name, stage=name, expected="x", config=CorpusConfig(), inputs={}) as work:
        for file, content in files.items():
            path = work.folder / file
            path.parent.mkdir(exist_ok=True)
            if file.endswith(".jsonl"):
                write_jsonl(path, content)
            else:
                write_json(path, content)
        work.counts.update(counts)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / EVIL.replace("/", "_")
    folder.mkdir()
    rejected = [{"what": EVIL, "reason": "silent", "detail": "peak <0>"}] * 3
    stage(folder, "corpus", {"rejected.jsonl": rejected}, recordings=7, hours=1.25)
    stage(folder, "segments", {}, segment_rate_hz=15.5)
    log = [{"update": n, "generator_loss": 1 / (n + 1), "name": EVIL} for n in range(1000)]
    stage(
        folder,
        "matching",
        {
            "member_00/log.jsonl": log,
            "member_01/log.jsonl": [*log[:10], {"update": 11, "generator_loss": float("nan")}],
            "selection.json": {
                "selected": 1,
                "members": [{"seed": 0, "score": -5.125}, {"seed": 1, "score": -4.75, "x": None}],
            },
        },
        expected_phone_rate_hz=13.5,
    )
    stage(folder, "graph", {}, words=1234, states=987_654)
    rounds = [{"round": n, "gain": n / 10, "sure": 0.5, "loss": None} for n in range(3)]
    stage(folder, "selftrain", {"log.jsonl": rounds}, rounds=2)
    row = {
        "id": EVIL,
        "recording": EVIL,
        "split": "test",
        "phones": ["a", "<b>"],
        "start_s": [0.5, 1.0],
        "end_s": [1.0, 1.5],
        "log_prob": -1.0,
    }
    stage(folder, "decode", {"hypotheses.jsonl": [row]})
    scored = {"id": EVIL, "reference": ["a", "x"], "hypothesis": ["a", "<b>"], "errors": 1}
    table = {
        "references": ["a", "x"],
        "hypotheses": ["a", "<b>", ""],
        "counts": [[9, 0, 1], [0, 4, 0]],
    }
    steps = [
        {"step": "greedy", "per": 50.25, "low": 48.0, "high": 52.5},
        {
            **{"step": "hmm", "per": 41.25, "low": 39.0, "high": 43.5},
            **{"gain": 9.0, "gain_low": -7.25, "gain_high": 11.0},
        },
    ]
    stage(
        folder,
        "evaluate",
        {"utterances.jsonl": [scored], "confusion.json": table, "steps.json": steps},
    )
    write_json(
        folder / "metrics.json",
        {"per": 41.25, "per_low": 39.0, "per_high": 43.5, "phone_rate_hz": 11.5, "note": EVIL},
    )
    write_json(folder / "run.json", {"config": {}, "language": EVIL})
    return folder


def test_page_is_well_formed_and_needs_nothing_else(run_dir: Path) -> None:
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    page = path.read_text(encoding="utf-8")
    found = parse(page)
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "b>"}
    for tag, attributes in found.tags:
        for key, value in attributes.items():
            assert key not in {"src", "srcset", "data"}, tag
            assert not key.startswith("on"), tag
            if key == "href":
                assert value is not None
                assert value.startswith("#")
    assert "url(" not in page
    assert "@import" not in page
    assert "prefers-color-scheme: dark" in page
    viewport = [
        attributes for tag, attributes in found.tags if attributes.get("name") == "viewport"
    ]
    assert len(viewport) == 1


def test_page_shows_what_was_planted(run_dir: Path) -> None:
    text = " ".join(parse(write_report(run_dir).read_text(encoding="utf-8")).text)
    for planted in (
        "41.2 %",
        "39.0 to 43.5 %",
        EVIL,
        "corpus: silent",
        "15.5 Hz",
        "13.5 Hz",
        "-4.75",
        "generator loss",
        "self-training",
        "987,654",
        "generator alone",
        "50.2 [48.0 to 52.5]",
        "after self-training",
        "+9.0 [-7.2 to +11.0]",
        "x → <b>: 100.0 %",
        "a, 0.50–1.00 s",
        "peak <0>",
    ):
        assert planted in text, planted
    assert "damaged" not in text


def test_every_missing_section_says_so(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    text = parse(write_report(tmp_path).read_text(encoding="utf-8")).text
    for reason in (
        "there are no metrics yet",
        "no stage has run yet",
        "no segments yet",
        "there are no training logs",
        "no generator has been selected yet",
        "nothing has been decoded yet",
        "there is no run.json",
    ):
        assert reason in text


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.json", "{"),
        ("corpus/rejected.jsonl", "[]\n"),
        ("matching/selection.json", "3"),
        ("evaluate/steps.json", "["),
        ("evaluate/confusion.json", '{"references": ["a"], "hypotheses": ["a"], "counts": []}'),
        ("decode/hypotheses.jsonl", '{"id": 1}\n'),
        ("decode/hypotheses.jsonl", "\udcff"),
    ],
)
def test_a_damaged_file_costs_its_section_only(run_dir: Path, file: str, content: str) -> None:
    (run_dir / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    found = parse(write_report(run_dir).read_text(encoding="utf-8"))
    text = " ".join(found.text)
    assert "the files of this section are damaged" in text
    assert len([tag for tag, _ in found.tags if tag == "section"]) == len(SECTIONS)


def test_a_log_that_was_cut_off_is_still_drawn(run_dir: Path) -> None:
    log = run_dir / "matching" / "member_00" / "log.jsonl"
    log.write_text(log.read_text() + '{"update": 100')
    rounds = run_dir / "selftrain" / "log.jsonl"
    rounds.write_text(rounds.read_text() + '{"round"')
    text = " ".join(parse(write_report(run_dir).read_text(encoding="utf-8")).text)
    assert "generator loss" in text


def test_long_logs_make_no_large_page(run_dir: Path) -> None:
    rows = ({"update": n, "generator_loss": float(n % 7)} for n in range(50_000))
    write_jsonl(run_dir / "matching" / "member_00" / "log.jsonl", rows)
    assert write_report(run_dir).stat().st_size < 100_000


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing of a run"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        write_report(tmp_path / "nowhere")


def test_lines_are_placed_by_their_values() -> None:
    chart = line_chart("x", [("one", [(0, 0.0), (1, float("inf")), (10, 5.0)])])
    points = [a["points"] for tag, a in parse(chart).tags if tag == "polyline"]
    assert points == ["56.0,174.0 632.0,8.0"]


def test_heat_map_leaves_out_empty_cells() -> None:
    found = parse(heat_map("x", ["a", "b"], ["a", "b"], [[0.9, 0.1], [0.0, 1.0]]))
    shades = [a["fill-opacity"] for tag, a in found.tags if tag == "rect"]
    assert shades == ["0.90", "0.10", "1.00"]


def test_timeline_is_to_scale() -> None:
    found = parse(timeline("x", [("a", 2.0, 3.0), ("b", 3.5, 4.0)], 2.0))
    boxes = [(a["x"], a["width"]) for tag, a in found.tags if tag == "rect"]
    assert boxes == [("0.0", "89.0"), ("135.0", "44.0")]


@pytest.mark.parametrize("chart", [line_chart("t", []), timeline("t", [], 0.0)])
def test_empty_charts_say_so(chart: str) -> None:
    assert json.dumps(chart).count("missing") == 1
