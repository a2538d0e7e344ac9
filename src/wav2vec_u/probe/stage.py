"""``wav2vec-u probe``: which block of an encoder holds the phones, and how far it is from MFCC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table
from scipy.stats import spearmanr

from wav2vec_u.config import ProbeConfig, RunConfig, TextConfig
from wav2vec_u.corpus.manifest import Recording
from wav2vec_u.corpus.rejections import Rejection, count_by_reason, summary, write_rejections
from wav2vec_u.evaluate.labelled import TRAIN_SPLIT, LabelledRecordings, read_labelled
from wav2vec_u.finetune.units import spell
from wav2vec_u.matching.batches import draw_within
from wav2vec_u.probe.blocks import (
    BASELINE,
    BlockEncoder,
    load_baseline,
    load_block_encoder,
    pick_blocks,
)
from wav2vec_u.probe.frames import BlockFrames, Source, encode_recordings
from wav2vec_u.probe.layer_choice import BlockScores, LayerChoice, choose_layer
from wav2vec_u.probe.linear_ctc import Frames, ProbeResult, ProbeSettings, probe_per
from wav2vec_u.probe.plot import Point, draw
from wav2vec_u.runtime.disk import explain_disk_errors
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_jsonl, write_text
from wav2vec_u.runtime.progress import progress
from wav2vec_u.runtime.seeds import numpy_generator

METRICS_NAME = "metrics.json"
TABLE_NAME = "probe.jsonl"
PLOT_NAME = "probe.svg"
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class ProbeReport:
    """What a probe of an encoder found.

    Attributes
    ----------
    metrics : dict
        As in ``metrics.json``.
    blocks : dict of str to ProbeResult
        By name of the block, from the input up.
    baseline : ProbeResult
        Of MFCC.
    choice : LayerChoice or None
        None unless asked for, and where there is one block only.
    rejected : list of Rejection
    """

    metrics: dict[str, Any]
    blocks: dict[str, ProbeResult]
    baseline: ProbeResult
    choice: LayerChoice | None
    rejected: list[Rejection]


def run(
    out: Path, encoder: str, references: Path, config: RunConfig, audio: Path | None = None
) -> ProbeReport:
    """Probe an encoder and write the figures.

    Parameters
    ----------
    out : Path
        Gets ``metrics.json``, ``probe.jsonl`` (a line a block, MFCC the last), ``probe.svg`` and
        ``rejected.jsonl``, and for the time of the probe the frames.
    encoder : str
        See `blocks.load_block_encoder`.
    references : Path
        TSV with the columns ``path``, ``split`` and ``text``.
    config : RunConfig
        `probe`, `text`, `language` and `corpus.max_flatness` are used.
    audio : Path or None
        Folder or manifest of the recordings, where the paths of `references` do not lead to them.

    Raises
    ------
    UserError
        See `probe_encoder`; also if something cannot be read or written.
    """
    labelled = read_labelled(references, audio)
    loaded = load_block_encoder(encoder, config.probe.device)
    with explain_disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix="frames.") as scratch:
            report = probe_encoder(loaded, encoder, labelled, config, Path(scratch))
        write_rejections(out, report.rejected)
        write_jsonl(out / TABLE_NAME, _rows(report))
        write_text(out / PLOT_NAME, _picture(report, encoder))
        write_json(out / METRICS_NAME, report.metrics)  # last: where it stands, all of it stands
    return report


def probe_encoder(
    encoder: BlockEncoder,
    name: str,
    labelled: LabelledRecordings,
    config: RunConfig,
    scratch: Path,
) -> ProbeReport:
    """Train a linear layer on every block, and on MFCC of the same recordings.

    The phones are those of split ``train``; other phones of the test recordings count as errors.

    Parameters
    ----------
    encoder : BlockEncoder
    name : str
        What it is called in messages and figures.
    labelled : LabelledRecordings
    config : RunConfig
        `probe`, how transcripts become phones (`text`, `language`), and what is noise (`corpus`).
    scratch : Path
        Folder for the frames of all blocks: 2 bytes a number.

    Raises
    ------
    UserError
        If there is no such layer, a split is missing or has too few utterances.
    """
    settings = config.probe
    if settings.test_split == TRAIN_SPLIT:
        raise UserError("probe.test_split: is what is learned from; name another split")
    blocks = pick_blocks(encoder, settings.layers, name)
    phones, rejected = _spell(labelled, config.text, config.language)
    rejected = [*labelled.rejected, *rejected]
    splits = {
        split: _draw(labelled.recordings, phones, split, hours, settings, rejected)
        for split, hours in (
            (TRAIN_SPLIT, settings.max_train_hours),
            (settings.test_split, settings.max_test_hours),
        )
    }
    baseline = load_baseline()
    sources = [Source(encoder, blocks), Source(baseline, [(0, BASELINE)])]
    data: dict[str, _Split] = {}
    for split, recordings in splits.items():
        folder = scratch / f"split-{len(data)}"
        folder.mkdir()
        with BlockFrames(folder, [key for source in sources for _, key in source.blocks]) as frames:
            kept, refused = encode_recordings(
                recordings, sources, frames, settings.batch_seconds, config.corpus.max_flatness
            )
        rejected += refused
        if not kept:
            raise UserError(
                f"--references: no recording of split {split} can be used ({summary(rejected)})"
            )
        data[split] = _Split(frames, kept, [phones[recording.id] for recording in kept])
    train, test = data[TRAIN_SPLIT], data[settings.test_split]

    inventory = sorted({phone for spoken in train.phones for phone in spoken})
    ids = {phone: number for number, phone in enumerate(inventory)}
    train_targets = [[ids[phone] for phone in spoken] for spoken in train.phones]
    # Phones that are never heard in training get ids of their own, which no output has.
    unseen = sorted({phone for spoken in test.phones for phone in spoken} - set(inventory))
    ids |= {phone: len(inventory) + number for number, phone in enumerate(unseen)}
    test_targets = [[ids[phone] for phone in spoken] for spoken in test.phones]

    def probe(key: str, frame_rate_hz: float) -> ProbeResult:
        return probe_per(
            train.frames.read(key),
            train_targets,
            test.frames.read(key),
            test_targets,
            len(inventory),
            settings.seed,
            frame_rate_hz=frame_rate_hz,
            settings=ProbeSettings(bootstrap_samples=settings.bootstrap_samples),
        )

    results = {
        key: probe(key, encoder.frame_rate_hz) for _, key in progress(blocks, label="probing")
    }
    reference = probe(BASELINE, baseline.frame_rate_hz)
    choice = None
    if settings.label_free and len(blocks) > 1:
        choice = _choose(train, [key for _, key in blocks], encoder.frame_rate_hz, settings)
    metrics: dict[str, Any] = {
        "encoder": name,
        **_measured(results, reference),
        **(_compared(results, choice) if choice is not None else {}),
        "hours_train": train.hours,
        "hours_test": test.hours,
        "train_utterances": len(train.phones),
        "test_utterances": len(test.phones),
        "phone_types": len(inventory),
        "test_phones_never_trained": sum(
            phone in unseen for spoken in test.phones for phone in spoken
        ),
        "recordings_without_transcript": labelled.without_transcript,
        "rejected": count_by_reason(rejected),
    }
    return ProbeReport(_rounded(metrics), results, reference, choice, rejected)


def show(report: ProbeReport) -> Table:
    """Return the figures as a table for the console."""
    table = Table(title="linear probe, phone error rate on the test split")
    for column in ("block", "PER %", "95 % interval", "validation", "of MFCC"):
        table.add_column(column, justify="right", no_wrap=True)
    combined = report.choice.combined if report.choice is not None else {}
    if combined:
        table.add_column("label-free", justify="right", no_wrap=True)
    for name, result in [*report.blocks.items(), (BASELINE, report.baseline)]:
        marks = ("*" if name == report.metrics["probe_layer_name"] else "") + (
            "°" if name == report.metrics.get("label_free_layer_name") else ""
        )
        table.add_row(
            name + marks,
            f"{result.per:.1f}",
            f"{result.per_low:.1f} to {result.per_high:.1f}",
            f"{result.validation_per:.1f}",
            f"{_ratio(result, report.baseline):.2f}",
            *([f"{combined[name]:+.2f}"] if name in combined else []),
        )
    table.caption = "* chosen by validation" + ("   ° chosen without labels" if combined else "")
    return table


@dataclass(frozen=True)
class _Split:
    frames: BlockFrames
    recordings: list[Recording]
    phones: list[list[str]]

    @property
    def hours(self) -> float:
        return sum(recording.seconds for recording in self.recordings) / 3600


def _spell(
    labelled: LabelledRecordings, text_config: TextConfig, language: str
) -> tuple[dict[str, list[str]], list[Rejection]]:
    transcripts = [labelled.transcripts[recording.id] for recording in labelled.recordings]
    spelled = spell(transcripts, "phones", text_config, language)
    phones: dict[str, list[str]] = {}
    rejected = []
    for recording, transcript, found in zip(labelled.recordings, transcripts, spelled, strict=True):
        if found is not None:
            phones[recording.id] = found
        else:
            detail = f"cannot be turned into phones: {transcript[:_SHOWN_CHARACTERS]}"
            rejected.append(Rejection(recording.id, "unpronounceable", detail))
    return phones, rejected


def _draw(
    recordings: Sequence[Recording],
    phones: dict[str, list[str]],
    split: str,
    hours: float,
    config: ProbeConfig,
    rejected: list[Rejection],
) -> list[Recording]:
    """Draw recordings of a split, up to so many hours; long ones are listed as rejected."""
    spoken = [item for item in recordings if item.split == split and item.id in phones]
    chosen: list[Recording] = []
    seconds = 0.0
    for index in numpy_generator(config.seed, "probe", "draw", split).permutation(len(spoken)):
        recording = spoken[int(index)]
        if recording.seconds > config.max_utterance_seconds:
            detail = f"{recording.seconds:.1f} s; see probe.max_utterance_seconds"
            rejected.append(Rejection(recording.id, "too_long", detail))
        elif seconds + recording.seconds <= 3600 * hours:
            chosen.append(recording)
            seconds += recording.seconds
    if not chosen:
        found = ", ".join(sorted({item.split for item in recordings})) or "none"
        reasons = f"; left out: {summary(rejected)}" if rejected else ""
        raise UserError(
            f"--references: no recording of split {split} can be used (splits: {found}{reasons}); "
            "check the columns split and text, --lang, and probe.test_split"
        )
    return chosen


def _choose(
    train: _Split, names: Sequence[str], frame_rate_hz: float, config: ProbeConfig
) -> LayerChoice:
    # Recordings stand in order of length, not of the draw.
    drawn = draw_within(
        range(len(train.recordings)),
        lambda i: train.recordings[i].seconds,
        60 * config.label_free_minutes,
        numpy_generator(config.seed, "probe", "label-free"),
    )

    def some(name: str) -> list[Frames]:
        frames = train.frames.read(name)
        return [frames[i] for i in drawn]

    return choose_layer(
        {name: some(name) for name in names},
        frame_rate_hz,
        clusters=config.clusters,
        ngram_order=config.ngram_order,
        seed=config.seed,
    )


def _measured(results: dict[str, ProbeResult], baseline: ProbeResult) -> dict[str, Any]:
    best = min(results, key=lambda name: results[name].validation_per)
    chosen = results[best]
    return {
        "probe_per": chosen.per,
        "probe_per_low": chosen.per_low,
        "probe_per_high": chosen.per_high,
        "probe_layer": _number(best),
        "probe_layer_name": best,
        "probe_per_by_layer": {name: result.per for name, result in results.items()},
        "probe_interval_by_layer": {
            name: [result.per_low, result.per_high] for name, result in results.items()
        },
        "probe_validation_per_by_layer": {
            name: result.validation_per for name, result in results.items()
        },
        "probe_per_mfcc": baseline.per,
        "probe_per_mfcc_low": baseline.per_low,
        "probe_per_mfcc_high": baseline.per_high,
        "probe_ratio_to_mfcc": _ratio(chosen, baseline),
        "probe_too_fast_utterances": chosen.too_fast,
    }


def _compared(results: dict[str, ProbeResult], choice: LayerChoice) -> dict[str, Any]:
    """How the label-free choice does: points of PER lost, and the correlation of every score."""
    best = min(results, key=lambda name: results[name].validation_per)
    errors = [results[name].per for name in choice.scores]
    scores = {name: asdict(score) for name, score in choice.scores.items()}
    columns = {
        field.name: [scores[name][field.name] for name in scores] for field in fields(BlockScores)
    }
    columns["combined"] = [choice.combined[name] for name in scores]
    return {
        "label_free_layer": _number(choice.chosen),
        "label_free_layer_name": choice.chosen,
        "label_free_regret": results[choice.chosen].per - results[best].per,
        # Good scores go down where the error rate goes up: near -1.
        "label_free_spearman": {
            key: float(spearmanr(values, errors).statistic) for key, values in columns.items()
        },
        "label_free_scores": {
            name: {**score, "combined": choice.combined[name]} for name, score in scores.items()
        },
    }


def _rows(report: ProbeReport) -> list[dict[str, Any]]:
    rows = []
    for name, result in [*report.blocks.items(), (BASELINE, report.baseline)]:
        row = {
            "block": name,
            "per": result.per,
            "per_low": result.per_low,
            "per_high": result.per_high,
            "validation_per": result.validation_per,
            "updates": result.updates,
            "train_utterances": result.train_utterances,
            "validation_utterances": result.validation_utterances,
            "too_fast": result.too_fast,
        }
        if report.choice is not None and name in report.choice.scores:
            row |= asdict(report.choice.scores[name])
            row["combined"] = report.choice.combined[name]
        rows.append(_rounded(row))
    return rows


def _picture(report: ProbeReport, name: str) -> str:
    points = [
        Point(key, result.per, result.per_low, result.per_high)
        for key, result in report.blocks.items()
    ]
    reference = report.baseline
    line = Point("MFCC", reference.per, reference.per_low, reference.per_high)
    return draw(f"linear probe of {name}", points, line)


def _ratio(result: ProbeResult, baseline: ProbeResult) -> float:
    return result.per / baseline.per if baseline.per else float("nan")


def _number(name: str) -> int | str:
    # Numbers where the blocks have them: what `features.layer` takes.
    return int(name) if name.isdecimal() else name


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None  # JSON has no NaN
    return value
