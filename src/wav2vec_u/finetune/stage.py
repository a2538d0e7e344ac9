"""``wav2vec-u finetune``: an encoder and a TSV of transcripts in, a recogniser and figures out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wav2vec_u.config import CorpusConfig, FinetuneConfig, RunConfig, TextConfig
from wav2vec_u.corpus.audio import AudioError, Samples, read_audio
from wav2vec_u.corpus.check import check_recording
from wav2vec_u.corpus.manifest import Recording
from wav2vec_u.corpus.rejections import (
    Rejection,
    count_by_reason,
    summary,
    write_rejections,
)
from wav2vec_u.encoder.shipped import identify_encoder
from wav2vec_u.evaluate.error_rate import (
    Errors,
    bootstrap_interval,
    count_errors,
    percent,
    pool,
)
from wav2vec_u.evaluate.labelled import (
    TEST_SPLIT,
    TRAIN_SPLIT,
    LabelledRecordings,
    read_labelled,
)
from wav2vec_u.features.batching import length_batches, map_ahead
from wav2vec_u.finetune.model import FinetunedModel
from wav2vec_u.finetune.train import CHECKPOINT_NAME, finetune
from wav2vec_u.finetune.units import Units, collect_units, spell
from wav2vec_u.finetune.utterance import LabelledUtterance
from wav2vec_u.runtime import artifact
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.disk import explain_disk_errors
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_jsonl
from wav2vec_u.runtime.inputs import hash_files, stamp_files
from wav2vec_u.runtime.progress import progress
from wav2vec_u.runtime.seeds import numpy_generator

STAGE = "finetune"
METRICS_NAME = "metrics.json"
_SHOWN_CHARACTERS = 80


def finetune_artifact(
    out: Path, encoder: str, references: Path, config: RunConfig, audio: Path | None = None
) -> dict[str, Any]:
    """Fine-tune into a folder, unless it holds the model of the same settings and inputs already.

    Parameters
    ----------
    out : Path
        Gets the model when it is whole. An interrupted training goes on in ``<out>.partial``.
    encoder, references, audio
        See `run`.
    config : RunConfig
        `finetune`, `corpus`, `text` and `language` are used.

    Returns
    -------
    dict
        The figures of ``metrics.json``.

    Raises
    ------
    UserError
        See `run`; also if `out` holds something else, or another process works there.
    """
    _refuse_foreign(out)
    labelled = read_labelled(references, audio)
    inputs = {
        "references": hash_files([references]),
        "recordings": stamp_files(Path(recording.audio) for recording in labelled.recordings),
        "encoder": identify_encoder(encoder),
    }
    expected = artifact.fingerprint(
        schema=artifact.SCHEMA,
        config=config.finetune.model_dump(mode="json", exclude={"device"}),
        corpus=config.corpus,
        text=config.text,
        language=config.language,
        inputs=inputs,
    )
    with _lock(out):
        if not artifact.is_current(out, expected):
            with artifact.create(
                out,
                stage=STAGE,
                expected=expected,
                config=config.finetune,
                inputs=inputs,
                resumable=True,
            ) as work:
                run(work, config, encoder, labelled)
        record = artifact.read_record(out)
    return dict(record.counts) if record is not None else {}


def run(work: Work, run_config: RunConfig, encoder: str, labelled: LabelledRecordings) -> None:
    """Train on split ``train``, and measure on split ``test`` where there is one.

    Writes the model (`model.FinetunedModel`), ``metrics.json`` (percentages 0-100), ``log.jsonl``,
    ``rejected.jsonl`` and, with a test split, ``utterances.jsonl`` (id, reference, hypothesis,
    errors). The units are those of the transcripts of split ``train``; what else the transcripts
    of split ``test`` hold counts as an error.

    Parameters
    ----------
    work : Work
        Folder to write to; gets the metrics as counts.
    run_config : RunConfig
        See `finetune_artifact`.
    encoder : str
        See `backbone.load_backbone`.
    labelled : LabelledRecordings

    Raises
    ------
    UserError
        If no transcript of split ``train`` can be used, or the training fails (`train.finetune`).
    """
    config, language = run_config.finetune, run_config.language
    spelled = _spell(labelled, config, run_config.text, language)
    recordings, inaudible = _audible(
        [recording for recording in labelled.recordings if recording.id in spelled.symbols],
        run_config.corpus,
    )
    rejected = [*labelled.rejected, *spelled.rejected, *inaudible]
    train = [recording for recording in recordings if recording.split == TRAIN_SPLIT]
    if not train:
        left_out = f" ({summary(rejected)})" if rejected else ""
        raise UserError(
            f"--references: no recording of split {TRAIN_SPLIT} has a transcript that can be used"
            f"{left_out}; check the columns path, split and text, and --lang"
        )
    units = collect_units(
        (spelled.symbols[recording.id] for recording in train),
        config.units,
        language,
        config.min_symbol_count,
    )
    utterances, outside = _encode(train, spelled.symbols, units)
    result = finetune(
        encoder,
        utterances,
        units,
        config,
        work.folder,
        resume=work.resumed,
        keep_checkpoint=True,
    )
    rejected += [*outside, *result.rejected]

    metrics: dict[str, Any] = {
        "units": config.units,
        "unit_types": len(units),
        "encoder": encoder,
        "validation_error_rate": result.validation_error_rate,
        "updates": config.updates,
        "best_update": result.best_update,
        "train_utterances": result.train_utterances,
        "train_hours": result.train_seconds / 3600,
        "validation_utterances": len(result.held_out),
        "recordings_without_transcript": labelled.without_transcript,
    }
    test = [recording for recording in recordings if recording.split == TEST_SPLIT]
    if test:
        # As it is on the disk, in half precision: what is measured is what is used.
        model = FinetunedModel.load(work.folder, config.device)
        measured, unheard = _evaluate(work.folder, model, test, spelled.symbols, config)
        metrics |= measured
        rejected += unheard
    metrics = {key: _rounded(value) for key, value in metrics.items()}
    write_json(work.folder / METRICS_NAME, metrics)
    write_rejections(work.folder, rejected)
    (work.folder / CHECKPOINT_NAME).unlink(missing_ok=True)  # all that it was kept for is done
    work.counts.update(metrics, rejected=count_by_reason(rejected))


def _audible(
    recordings: Sequence[Recording], config: CorpusConfig
) -> tuple[list[Recording], list[Rejection]]:
    """Listen to all of them first: a model taught with noise or silence says nothing of why."""
    heard, rejected = [], []
    for recording in progress(recordings, label="recordings", total=len(recordings)):
        try:
            check_recording(Path(recording.audio), config)
            heard.append(recording)
        except AudioError as error:
            rejected.append(Rejection(recording.id, error.reason, error.detail))
    return heard, rejected


@dataclass(frozen=True)
class _Spelled:
    """Symbols by recording, and the transcripts that have none."""

    symbols: dict[str, list[str]]
    rejected: list[Rejection]


def _spell(
    labelled: LabelledRecordings, config: FinetuneConfig, text_config: TextConfig, language: str
) -> _Spelled:
    transcripts = [labelled.transcripts[recording.id] for recording in labelled.recordings]
    found = spell(transcripts, config.units, text_config, language)
    symbols: dict[str, list[str]] = {}
    rejected = []
    for recording, transcript, spelled in zip(labelled.recordings, transcripts, found, strict=True):
        if spelled is not None:
            symbols[recording.id] = spelled
        else:
            detail = f"cannot be turned into {config.units}: {transcript[:_SHOWN_CHARACTERS]}"
            rejected.append(Rejection(recording.id, "unpronounceable", detail))
    return _Spelled(symbols, rejected)


def _encode(
    recordings: Sequence[Recording], symbols: dict[str, list[str]], units: Units
) -> tuple[list[LabelledUtterance], list[Rejection]]:
    utterances = []
    rejected = []
    for recording in recordings:
        unknown = units.unknown(symbols[recording.id])
        if unknown:
            detail = f"{' '.join(unknown)}: rarer than finetune.min_symbol_count"
            rejected.append(Rejection(recording.id, "unknown_symbol", detail))
            continue
        utterances.append(
            LabelledUtterance(
                id=recording.id,
                audio=recording.audio,
                spans=((0.0, recording.seconds),),
                targets=tuple(units.encode(symbols[recording.id])),
            )
        )
    return utterances, rejected


def _evaluate(
    folder: Path,
    model: FinetunedModel,
    recordings: Sequence[Recording],
    symbols: dict[str, list[str]],
    config: FinetuneConfig,
) -> tuple[dict[str, Any], list[Rejection]]:
    heard, unheard = _transcribe(model, recordings, config)
    texts = {
        name: (model.units.join(symbols[name]), model.units.join(heard[name])) for name in heard
    }
    by_word = {name: count_errors(*map(str.split, pair)) for name, pair in texts.items()}
    if config.units == "phones":
        errors = by_word
        metrics = _rates("per", list(errors.values()), config)
    else:
        errors = {name: count_errors(*map(list, pair)) for name, pair in texts.items()}
        metrics = _rates("cer", list(errors.values()), config)
        metrics |= _rates("wer", list(by_word.values()), config)
    metrics["test_utterances"] = len(heard)
    write_jsonl(
        folder / "utterances.jsonl",
        (
            {
                "id": key,
                "reference": model.units.join(symbols[key]),
                "hypothesis": model.units.join(heard[key]),
                "errors": errors[key].total,
            }
            for key in heard
        ),
    )
    return metrics, unheard


def _transcribe(
    model: FinetunedModel, recordings: Sequence[Recording], config: FinetuneConfig
) -> tuple[dict[str, list[str]], list[Rejection]]:
    """Transcribe what can be decoded, in the order of the recordings."""
    heard: dict[str, list[str]] = {}
    unheard = []
    short = [item for item in recordings if item.seconds <= config.max_utterance_seconds]
    for recording in recordings:
        if recording.seconds > config.max_utterance_seconds:
            detail = f"{recording.seconds:.1f} s; see finetune.max_utterance_seconds"
            unheard.append(Rejection(recording.id, "too_long", detail))
    batches = length_batches(short, lambda item: item.seconds, config.batch_seconds)
    for batch, loaded in progress(map_ahead(_load, batches), label="transcribing"):
        readable: list[str] = []
        waveforms: list[Samples] = []
        for recording, samples in zip(batch, loaded, strict=True):
            if isinstance(samples, AudioError):
                unheard.append(Rejection(recording.id, samples.reason, samples.detail))
            else:
                readable.append(recording.id)
                waveforms.append(samples)
        heard |= dict(zip(readable, model.transcribe(waveforms), strict=True))
    return {item.id: heard[item.id] for item in short if item.id in heard}, unheard


def _load(batch: list[Recording]) -> list[Samples | AudioError]:
    loaded: list[Samples | AudioError] = []
    for recording in batch:
        try:
            loaded.append(read_audio(recording.audio))
        except AudioError as error:
            loaded.append(error)
    return loaded


def _rates(name: str, errors: Sequence[Errors], config: FinetuneConfig) -> dict[str, Any]:
    total = pool(errors)
    rng = numpy_generator(config.seed, "finetune", "bootstrap", name)
    low, high = bootstrap_interval(errors, config.bootstrap_samples, rng)
    return {
        name: total.rate,
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_insertions": percent(total.insertions, total.reference_phones),
        f"{name}_deletions": percent(total.deletions, total.reference_phones),
        f"{name}_substitutions": percent(total.substitutions, total.reference_phones),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None  # JSON has no NaN
    return value


def _refuse_foreign(out: Path) -> None:
    # What stands at `out` is replaced when the model is whole: it must be a model of ours.
    if out.is_dir() and not any(out.iterdir()):
        return
    record = artifact.read_record(out)
    if out.exists() and (record is None or record.stage != STAGE):
        raise UserError(f"{out}: holds something else than a fine-tuned model; give another --out")


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    with explain_disk_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out.with_name(f".{out.name}.lock"), timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"{out}: another process fine-tunes into this folder; wait for it, or give another "
            "--out"
        ) from error
