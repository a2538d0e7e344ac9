"""The sections of the page, each a function from the folder of a run to HTML."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from wav2vec_u.evaluate.confusion import align
from wav2vec_u.report.charts import Series, bar_chart, heat_map, line_chart, timeline
from wav2vec_u.report.markup import Content, Markup, element, join, table
from wav2vec_u.runtime.artifact import StageRecord, read_record
from wav2vec_u.runtime.files import read_jsonl

STAGES = (
    "corpus",
    "silence",
    "features",
    "segments",
    "text",
    "matching",
    "graph",
    "selftrain",
    "decode",
    "words",
    "adapt",
    "evaluate",
)
_STEP_NAMES = ("update", "step", "round", "proposal", "proposals", "iteration", "epoch")
_MAX_CHARTS = 12
_MAX_CONFUSED = 40  # phones on a side of the confusion picture
_SAMPLES = 6
_SAMPLE_SECONDS = 20.0


class Unavailable(Exception):
    """A section has nothing to show; the message says why."""


def results(run_dir: Path) -> Markup:
    """The figures of ``metrics.json``, the main ones as cards."""
    metrics = _metrics(run_dir)
    cards = []
    for key, name in (
        ("wer", "word error rate"),
        ("per", "phone error rate"),
        ("per_ceiling", "labelled ceiling"),
        ("gap", "gap to the ceiling"),
    ):
        value = metrics.get(key)
        if isinstance(value, (int, float)) and math.isfinite(value):
            cards.append(element("div", element("b", f"{value:.1f} %"), name))
    low, high = metrics.get("per_low"), metrics.get("per_high")
    interval = None
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        interval = element(
            "p",
            f"95 % interval of the error rate: {low:.1f} to {high:.1f} % "
            f"(bootstrap over {metrics.get('utterances_evaluated', '?')} utterances)",
        )
    rows = [(key, _show(value)) for key, value in sorted(metrics.items())]
    every = element("details", element("summary", "all figures"), table(("figure", "value"), rows))
    return join(
        [element("div", cards, class_="cards") if cards else None, interval, _steps(run_dir), every]
    )


_STEPS = {
    "greedy": "generator alone",
    "lm": "read with the phone trigram",
    "hmm": "after self-training",
    "words": "phones of the words found",
    "encoder": "phones of the words found by the fine-tuned encoder",
}


def _steps(run_dir: Path) -> Markup | None:
    """What every step on the way is worth."""
    path = run_dir / "evaluate" / "steps.json"
    if not path.exists():
        return None
    rows = []
    for step in json.loads(path.read_text(encoding="utf-8")):
        gain = ""
        if "gain" in step:
            gain = f"{step['gain']:+.1f} [{step['gain_low']:+.1f} to {step['gain_high']:+.1f}]"
        rate = f"{step['per']:.1f} [{step['low']:.1f} to {step['high']:.1f}]"
        rows.append((_STEPS.get(step["step"], step["step"]), rate, gain))
    return table(("step", "phone error rate, %", "gain over the one before, points"), rows)


def intake(run_dir: Path) -> Markup:
    """What went in, and what was rejected by reason."""
    rows: list[list[Content]] = []
    bars: Counter[str] = Counter()
    for stage in STAGES:
        record = read_record(run_dir / stage)
        if record is None:
            continue
        reasons = _reasons(record, run_dir / stage / "rejected.jsonl")
        for reason, number in reasons.items():
            bars[f"{stage}: {reason}"] += number
        kept = ", ".join(
            f"{key.replace('_', ' ')} {_show(value)}"
            for key, value in record.counts.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        )
        rows.append([stage, kept, sum(reasons.values())])
    if not rows:
        raise Unavailable("no stage has run yet")
    chart = bar_chart("Rejected, by reason", bars.most_common(15)) if bars else None
    return join([table(("stage", "figures", "rejected"), rows), chart, _rejected_items(run_dir)])


def rates(run_dir: Path) -> Markup:
    """Segments and phones a second of speech."""
    bars = []
    record = read_record(run_dir / "segments")
    if record is not None and isinstance(record.counts.get("segment_rate_hz"), (int, float)):
        bars.append(("segments a second", float(record.counts["segment_rate_hz"])))
    try:
        metrics = _metrics(run_dir)
    except Unavailable:
        metrics = {}
    if isinstance(metrics.get("phone_rate_hz"), (int, float)):
        bars.append(("phones a second in the references", float(metrics["phone_rate_hz"])))
    matching = read_record(run_dir / "matching")
    if matching is not None and isinstance(
        matching.counts.get("expected_phone_rate_hz"), (int, float)
    ):
        expected = float(matching.counts["expected_phone_rate_hz"])
        bars.append(("phones a second, by how fast frames change", expected))
    if not bars:
        raise Unavailable("no segments yet")
    bars.append(("phones a second in usual speech", 12.0))
    note = element("p", "About 1.3 segments for each phone are wanted.", class_="note")
    return join([bar_chart("Rates", bars, "Hz"), note])


def costs(run_dir: Path) -> Markup:
    """Time and peak memory of every stage."""
    records: list[tuple[str, StageRecord]] = []
    for stage in STAGES:
        record = read_record(run_dir / stage)
        if record is not None:
            records.append((stage, record))
    if not records:
        raise Unavailable("no stage has run yet")
    total = sum(record.seconds for _, record in records)
    return join(
        [
            element("p", f"All stages together: {total:,.0f} s"),
            bar_chart("Time", [(stage, record.seconds) for stage, record in records], "s"),
            bar_chart(
                "Peak memory of the process until then",
                [(stage, record.peak_rss_mb) for stage, record in records],
                "MiB",
            ),
        ]
    )


def training(run_dir: Path) -> Markup:
    """Every figure of the training logs over time, one line for each seed."""
    folder = run_dir / "matching"
    logs = {path.parent.name: _log(path) for path in sorted(folder.glob("member_*/log.jsonl"))}
    if (folder / "log.jsonl").exists():
        logs["all"] = _log(folder / "log.jsonl")
    if (run_dir / "selftrain" / "log.jsonl").exists():
        logs["self-training"] = _log(run_dir / "selftrain" / "log.jsonl")
    logs = {name: rows for name, rows in logs.items() if rows}
    if not logs:
        raise Unavailable("there are no training logs")
    keys = dict.fromkeys(
        key
        for rows in logs.values()
        for row in rows
        for key, value in row.items()
        if _is_number(value) and key not in (*_STEP_NAMES, "member", "seed")
    )
    charts = []
    for key in islice(keys, _MAX_CHARTS):
        series: list[Series] = [
            (
                name,
                [
                    (_step(row, at), float(row[key]))
                    for at, row in enumerate(rows)
                    if _is_number(row.get(key))
                ],
            )
            for name, rows in logs.items()
        ]
        charts.append(
            line_chart(key.replace("_", " "), [item for item in series if item[1]], "updates")
        )
    return join(charts)


def seeds(run_dir: Path) -> Markup:
    """The candidates side by side, as ``selection.json`` lists them."""
    path = run_dir / "matching" / "selection.json"
    if not path.exists():
        raise Unavailable("no generator has been selected yet")
    selection = json.loads(path.read_text(encoding="utf-8"))
    plain: list[tuple[str, str]] = []
    candidates: list[dict[str, Any]] = []
    if isinstance(selection, list):
        candidates = [item for item in selection if isinstance(item, dict)]
    else:
        for key, value in selection.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                candidates = value
            else:
                plain.append((key, _show(value)))
    columns = list(dict.fromkeys(key for item in candidates for key in item))
    rows = [[_show(item.get(column)) for column in columns] for item in candidates]
    return join(
        [
            table(("choice", ""), plain) if plain else None,
            table([column.replace("_", " ") for column in columns], rows) if rows else None,
        ]
    )


def confusion(run_dir: Path) -> Markup:
    """Which phones are taken for which, in shares of the reference phone."""
    path = run_dir / "evaluate" / "confusion.json"
    if not path.exists():
        raise Unavailable("the run has not been evaluated against references")
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        (name or "∅", counts)
        for name, counts in zip(found["references"], found["counts"], strict=True)
    ][:_MAX_CONFUSED]
    # Columns in the order of the rows: what is right lies on the diagonal.
    names = [name or "∅" for name in found["hypotheses"]]
    row_names = [name for name, _ in rows]
    ordered = [name for name in row_names if name in names]
    ordered += [name for name in names if name not in row_names]
    columns = ordered[:_MAX_CONFUSED]
    places = [names.index(name) for name in columns]
    shares = [[counts[at] / max(1, sum(counts)) for at in places] for _, counts in rows]
    note = element(
        "p",
        "Rows: phones of the references, the frequent ones first; columns: what was recognised; "
        "∅: nothing (deletions in its column, insertions in its row).",
        class_="note",
    )
    return join([heat_map("Confusions", row_names, columns, shares), note])


def samples(run_dir: Path) -> Markup:
    """A few transcripts along the time of their audio, and beside their references."""
    path = run_dir / "decode" / "hypotheses.jsonl"
    if not path.exists():
        raise Unavailable("nothing has been decoded yet")
    rows = list(islice(read_jsonl(path), 5_000))
    chosen = [row for row in rows if row["split"] == "test" and row["phones"]] or rows
    evaluated = _evaluated(run_dir)
    parts: list[Content] = []
    for row in chosen[:_SAMPLES]:
        spans = list(zip(row["phones"], row["start_s"], row["end_s"], strict=True))
        begin = spans[0][1] if spans else 0.0
        shown = [span for span in spans if span[2] <= begin + _SAMPLE_SECONDS]
        parts.append(timeline(row["id"], shown, begin))
        scored = evaluated.get(row["recording"])
        if scored is not None:
            parts.append(_aligned(scored["reference"], scored["hypothesis"]))
    if not parts:
        raise Unavailable("there are no hypotheses")
    return join(parts)


def settings(run_dir: Path) -> Markup:
    """Settings and versions, to make the run again."""
    path = run_dir / "run.json"
    if not path.exists():
        raise Unavailable("there is no run.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    written = json.dumps(record, indent=2, ensure_ascii=False)
    return element("details", element("summary", "run.json"), element("pre", written))


Section = Callable[[Path], Markup]
SECTIONS: tuple[tuple[str, str, Section], ...] = (
    ("Results", "results", results),
    ("What went in", "intake", intake),
    ("Rates", "rates", rates),
    ("Time and memory", "costs", costs),
    ("Training", "training", training),
    ("Seeds", "seeds", seeds),
    ("Confusions", "confusion", confusion),
    ("Samples", "samples", samples),
    ("Settings", "settings", settings),
)


def _metrics(run_dir: Path) -> dict[str, Any]:
    for path in (run_dir / "metrics.json", run_dir / "evaluate" / "metrics.json"):
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return found
    raise Unavailable("there are no metrics yet")


def _reasons(record: StageRecord, path: Path) -> Counter[str]:
    counted = record.counts.get("rejected")
    if isinstance(counted, dict):  # lists of very many items are cut, the record is not
        return Counter({str(reason): int(number) for reason, number in counted.items()})
    return Counter(str(row["reason"]) for row in read_jsonl(path)) if path.exists() else Counter()


def _rejected_items(run_dir: Path) -> Markup | None:
    rows = [
        (stage, row["what"], row["reason"], row.get("detail", ""))
        for stage in STAGES
        if (run_dir / stage / "rejected.jsonl").exists()
        for row in islice(read_jsonl(run_dir / stage / "rejected.jsonl"), 20)
    ]
    if not rows:
        return None
    summary = element("summary", "the first rejected items of each stage")
    return element("details", summary, table(("stage", "what", "reason", "detail"), rows))


def _log(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue  # the last line of a run that was killed while it wrote
    return [row for row in rows if isinstance(row, dict)]


def _step(row: dict[str, Any], position: int) -> float:
    for name in _STEP_NAMES:
        if _is_number(row.get(name)):
            return float(row[name])
    return float(position)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _show(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, int) or value == int(value if math.isfinite(value) else 0):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _evaluated(run_dir: Path) -> dict[str, dict[str, Any]]:
    path = run_dir / "evaluate" / "utterances.jsonl"
    if not path.exists():
        return {}
    return {row["id"]: row for row in islice(read_jsonl(path), 20_000)}


def _aligned(reference: Iterable[str], hypothesis: Iterable[str]) -> Markup:
    columns = []
    for expected, heard in align(list(reference), list(hypothesis)):
        wrong = "wrong" if expected != heard else None
        columns.append(
            element("span", element("i", expected or "·"), element("i", heard or "·"), class_=wrong)
        )
    caption = element("p", "reference above, recognised below", class_="note")
    return element("div", caption, element("div", columns, class_="aligned"))
