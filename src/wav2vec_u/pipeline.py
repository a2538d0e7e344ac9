"""A run of all stages, and the rule by which they run again.

A stage is skipped if its artefact is whole and was made from the same settings and inputs. Every
artefact that is made anew makes what was learned from it stale, so that a run goes on exactly where
it was stopped, and a change of settings repeats what depends on it and nothing else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel
from rich.console import Console

from wav2vec_u.config import RunConfig, Settings
from wav2vec_u.corpus.manifest import read_recordings
from wav2vec_u.corpus.references import read_references
from wav2vec_u.doctor import Finding, diagnose
from wav2vec_u.encoder.shipped import SHIPPED
from wav2vec_u.recognizer import RUN_FILE, read_run_config
from wav2vec_u.report import write_report
from wav2vec_u.runtime import artifact
from wav2vec_u.runtime.device import pick_device
from wav2vec_u.runtime.disk import explain_disk_errors
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json
from wav2vec_u.stages import STAGES, RunInputs, Stage, stages_until
from wav2vec_u.text.phonemize import load_phonemizer
from wav2vec_u.text.source import find_files

METRICS_FILE = "metrics.json"
LOCK_FILE = ".lock"


_BY_NAME = {stage.name: stage for stage in STAGES}

# Where the machine computes is no part of what is computed.
_NOT_IN_FINGERPRINT = {"device"}

# Topics of the doctor that speak of the decode stage.
_AFTER_TRAINING = ("decode", "phone rate")

# Figure of metrics.json: the stage that counts it, and its name there.
_METRICS = {
    "hours_audio": ("corpus", "hours"),
    "hours_speech": ("silence", "hours"),
    "segment_rate_hz": ("segments", "segment_rate_hz"),
    "text_sentences": ("text", "sentences"),
    "phone_types": ("text", "phone_types"),
    "seeds": ("matching", "seeds"),
    "seeds_converged": ("matching", "seeds_converged"),
    "selected_seed": ("matching", "selected_seed"),
    "selection_metric": ("matching", "selection_metric"),
    "expected_phone_rate_hz": ("matching", "expected_phone_rate_hz"),
    "selftrain_rounds": ("selftrain", "rounds"),
}


class Pipeline:
    """One run: recordings and text in, a folder with a recogniser out.

    Parameters
    ----------
    config : RunConfig
        Settings of all stages.
    audio : str, Path or None
        Folder or manifest of the recordings.
    text : str, Path or None
        Text file, or folder of text files.
    language : str or None
        Espeak voice; None: as in `config`.
    out : str or Path
        Folder of the run; made if missing, gone on with if not.
    references : str, Path or None
        Transcripts to evaluate with. None: those in the manifest, if it has any.
    force : bool
        Train even where the doctor advises to stop.
    console : rich.console.Console or None
        Where a line is printed for every stage; None: nowhere.

    Examples
    --------
    >>> pipeline = Pipeline(load_config(), audio="recordings", text="text.txt",
    ...                     language="de", out="runs/de")  # doctest: +SKIP
    >>> pipeline.run()["per"]  # doctest: +SKIP
    23.4
    """

    def __init__(
        self,
        config: RunConfig,
        audio: str | Path | None,
        text: str | Path | None,
        language: str | None,
        out: str | Path,
        references: str | Path | None = None,
        *,
        force: bool = False,
        console: Console | None = None,
    ) -> None:
        language = language or config.language
        self.inputs = RunInputs(
            config=_with_absolute_paths(config).model_copy(update={"language": language}),
            audio=_absolute(audio),
            text=_absolute(text),
            language=language,
            references=_absolute(references),
            out=Path(out).absolute(),
        )
        self.out = self.inputs.out
        self._force = force
        self._console = console or Console(quiet=True)

    @classmethod
    def from_run(
        cls,
        run_dir: str | Path,
        references: str | Path | None = None,
        *,
        console: Console | None = None,
    ) -> Pipeline:
        """Take up a run as its ``run.json`` describes it, perhaps with other references.

        Raises
        ------
        UserError
            If there is no such run, or its record is damaged.
        """
        run_dir = Path(run_dir)
        config = read_run_config(run_dir)
        record = json.loads((run_dir / RUN_FILE).read_text(encoding="utf-8"))
        return cls(
            config,
            record.get("audio"),
            record.get("text"),
            record.get("language"),
            run_dir,
            references or record.get("references"),
            console=console,
        )

    def run(self, until: str | None = None, only: str | None = None) -> dict[str, Any]:
        """Run what is missing or stale, in order.

        Parameters
        ----------
        until : str or None
            Run this stage and those it needs; None: all.
        only : str or None
            Run this stage alone, from the artefacts that are there.

        Returns
        -------
        dict
            The figures of ``metrics.json``.

        Raises
        ------
        UserError
            If another run works in the same folder, or a stage finds something to mend.
        """
        with explain_disk_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            with self._lock():
                return self._run([_BY_NAME[only]] if only else stages_until(until))

    def _run(self, stages: list[Stage]) -> dict[str, Any]:
        torch.set_num_threads(self.inputs.config.threads)
        self._check_inputs(stages)
        write_json(self.out / RUN_FILE, self.inputs.as_record())
        for stage in stages:
            self._check_needs(stage)
            if stage.name == "silence" and _BY_NAME["evaluate"] in stages:
                self._has_references()  # those that fit nothing are refused before the work
            if stage.name == "evaluate" and not self._has_references():
                self._skip_evaluation(stage)
                continue
            inputs = self._inputs_of(stage)
            expected = self._fingerprint(stage, inputs)
            if artifact.is_current(self.out / stage.name, expected):
                self._say(stage.name, "", "up to date")
                continue
            if stage.name == "matching":
                self._consult_doctor()
            self._make(stage, expected, inputs)
        metrics = self._metrics()
        write_json(self.out / METRICS_FILE, metrics)
        write_report(self.out)
        return metrics

    def _make(self, stage: Stage, expected: str, inputs: dict[str, str]) -> None:
        with artifact.create(
            self.out / stage.name,
            stage=stage.name,
            expected=expected,
            config=self._settings(stage),
            inputs=inputs,
            resumable=stage.resumable,
        ) as work:
            stage.start(work, self.inputs)
        record = artifact.read_record(self.out / stage.name)
        seconds = record.seconds if record is not None else 0.0
        self._say(stage.name, f"{seconds:.1f} s", _figures(stage, work.counts))

    def _settings(self, stage: Stage) -> BaseModel:
        settings: BaseModel = getattr(self.inputs.config, stage.name, Settings())
        return settings

    def _inputs_of(self, stage: Stage) -> dict[str, str]:
        made = {need: artifact.identity(self.out / need) for need in stage.needs}
        return made | stage.reads(self.inputs)

    def _fingerprint(self, stage: Stage, inputs: dict[str, str]) -> str:
        return artifact.fingerprint(
            stage=stage.name,
            schema=artifact.SCHEMA,
            config=self._settings(stage).model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT),
            inputs=inputs,
        )

    def _check_inputs(self, stages: list[Stage]) -> None:
        """Find the mistakes that would otherwise show only after hours of work."""
        names = {stage.name for stage in stages}
        config = self.inputs.config
        if "corpus" in names and not self.inputs.given_audio().exists():
            raise UserError(f"{self.inputs.audio}: there is no such folder or manifest")
        if "text" in names:
            find_files(self.inputs.given_text())
            # No word, but the language and what pronounces are looked up.
            load_phonemizer(config.text).phonemize([], self.inputs.language)
        if "features" in names:
            pick_device(config.features.device)
        if "matching" in names:
            pick_device(config.matching.device)
            _check_method(config)
        references = self.inputs.references
        if "evaluate" in names and references is not None and not references.is_file():
            raise UserError(f"{references}: there is no such file of references")

    def _check_needs(self, stage: Stage) -> None:
        for need in stage.needs:
            if artifact.read_record(self.out / need) is None:
                raise UserError(
                    f"{self.out}: the stage {stage.name} needs {need}, which has not run; "
                    "give the `wav2vec-u run` command of this folder again"
                )

    def _has_references(self) -> bool:
        """Tell whether there are transcripts of the split that would be evaluated."""
        split = self.inputs.config.evaluate.split
        given = self.inputs.references
        manifest = given or self.inputs.audio
        if manifest is None or manifest.is_dir():
            return False
        recordings = read_recordings(self.out / "corpus")
        try:
            transcripts = read_references(manifest, recordings)
        except UserError:
            if given is not None:
                raise
            return False  # a manifest without transcripts is no mistake
        fit = any(item.split == split and item.id in transcripts for item in recordings)
        if given is not None and not fit:
            splits = ", ".join(sorted({item.split for item in recordings}))
            raise UserError(
                f"{given}: transcribes no recording of split {split}; its ids or paths must be "
                f"those of the recordings, and evaluate.split one of: {splits}"
            )
        return fit

    def _skip_evaluation(self, stage: Stage) -> None:
        split = self.inputs.config.evaluate.split
        self._say(stage.name, "", f"skipped: no transcripts of split {split}")
        record = artifact.read_record(self.out / stage.name)
        if not self._fits(stage) or record is None or record.config.get("split") != split:
            # What stands there speaks of a generator that is no more, or of another split.
            shutil.rmtree(self.out / stage.name, ignore_errors=True)

    def _consult_doctor(self) -> None:
        """Stop before the expensive part where it would be wasted."""
        # What an earlier generator said is checked too, and is about to be replaced.
        findings = [item for item in diagnose(self.out) if item.topic not in _AFTER_TRAINING]
        for finding in findings:
            if finding.level != "ok":
                self._say("doctor", finding.level, _sentence(finding))
        stops = [_sentence(finding) for finding in findings if finding.level == "stop"]
        if stops and not self._force:
            raise UserError(
                f"{self.out}: stopped before training, {'; '.join(stops)} (--force trains anyway)"
            )

    def _fits(self, stage: Stage) -> bool:
        """Tell whether a stage's artefact was made from those that are there now."""
        record = artifact.read_record(self.out / stage.name)
        return record is not None and all(
            record.inputs.get(need) == artifact.identity(self.out / need) for need in stage.needs
        )

    def _metrics(self) -> dict[str, Any]:
        records = {
            stage.name: record
            for stage in STAGES
            if self._fits(stage)
            and (record := artifact.read_record(self.out / stage.name)) is not None
        }
        metrics: dict[str, Any] = {}
        if "evaluate" in records:
            counts = records["evaluate"].counts
            metrics |= {key: value for key, value in counts.items() if key != "rejected"}
        for key, (name, count) in _METRICS.items():
            if name in records and count in records[name].counts:
                metrics[key] = records[name].counts[count]
        for name, record in records.items():
            metrics[f"seconds_{name}"] = record.seconds
        metrics["seconds_total"] = round(sum(record.seconds for record in records.values()), 3)
        metrics["peak_rss_mb"] = max(
            (record.peak_rss_mb for record in records.values()), default=0.0
        )
        config = self.inputs.config
        metrics |= {
            "language": self.inputs.language,
            "encoder": config.features.encoder,
            "method": config.matching.method,
            "seed": config.matching.seed,
        }
        for record in records.values():
            metrics |= {f"version_{name}": value for name, value in record.versions.items()}
        return metrics

    @contextmanager
    def _lock(self) -> Iterator[None]:
        # The system releases the lock of a process that is gone, however it ended.
        try:
            with FileLock(self.out / LOCK_FILE, timeout=0):
                yield
        except Timeout as error:
            raise UserError(
                f"{self.out}: another run works in this folder; wait for it, or give another --out"
            ) from error

    def _say(self, stage: str, mark: str, message: str) -> None:
        line = f"{stage:<9} {mark:>8}  {message}".rstrip()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _check_method(config: RunConfig) -> None:
    """Refuse settings of other stages with which a method of matching learns nothing."""
    method = config.matching.method
    if method == "synthetic" and config.text.phonemizer != "espeak":
        raise UserError(
            "matching.method: synthetic speech has espeak-ng's phones, and the text those of "
            f"{config.text.phonemizer!r}; set text.phonemizer to espeak, or for a language without "
            "a voice matching.method to decipherment, segments.boundaries to viterbi and "
            "features.encoder to mfcc (configs/decipherment.yaml)"
        )
    if method.startswith("decipherment") and config.segments.boundaries == "frames":
        raise UserError(
            "segments.boundaries: the decipherment reads segments and not frames; set it to "
            "viterbi (configs/decipherment.yaml)"
        )


def _figures(stage: Stage, counts: dict[str, Any]) -> str:
    try:
        line = stage.figures.format_map(counts)
    except (KeyError, ValueError, TypeError):  # a figure that could not be had: None, or missing
        line = ""
    if "stopped" in counts:
        line += f"; stopped: {counts['stopped']}"
    rejected = counts.get("rejected")
    if rejected:
        reasons = ", ".join(f"{number} {reason}" for reason, number in rejected.items())
        line += f"; rejected: {reasons}"
    return line


def _sentence(finding: Finding) -> str:
    advice = f": {finding.advice}" if finding.advice else ""
    return f"{finding.topic}: {finding.message}{advice}"


def _absolute(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path).absolute()


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return settings whose files are found from every folder, as `run.json` shall keep them."""
    features, text = config.features, config.text
    if features.encoder != SHIPPED and Path(features.encoder).is_dir():
        features = features.model_copy(update={"encoder": str(Path(features.encoder).absolute())})
    text = text.model_copy(update={"lexicon": _absolute(text.lexicon)})
    return config.model_copy(update={"features": features, "text": text})
