"""The command line: one verb for a whole run, one for every stage, and what is done with a run.

Whatever needs torch is imported by the commands themselves, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from typer.core import TyperGroup

from wav2vec_u.runtime.errors import UserError

if TYPE_CHECKING:
    from wav2vec_u.doctor import Finding

USER_ERROR = 2
INTERRUPTED = 130  # as shells count it: 128 + SIGINT
_SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt", "textgrid": ".TextGrid"}
_JOINABLE = ("text", "json")  # several transcripts may stand in one stream


class _Commands(TyperGroup):
    """Commands whose mistakes of the user are told in one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            _complain(str(error))
            raise typer.Exit(USER_ERROR) from error
        except KeyboardInterrupt as error:
            _complain("interrupted; give the same command again to go on where it stopped")
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=_Commands,
    help="Speech recognition without transcripts: recordings and unpaired text in, a recogniser "
    "out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Audio = Annotated[Path | None, typer.Option(help="folder or manifest of the recordings")]
Text = Annotated[Path | None, typer.Option(help="text file, or folder of .txt files")]
Language = Annotated[
    str | None, typer.Option("--lang", help="espeak voice of the language, such as en-us, de, sw")
]
Out = Annotated[Path, typer.Option(help="folder of the run; an unfinished run goes on")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of settings")]
EncoderName = Annotated[
    str | None, typer.Option(help="`mfcc`, a Hugging Face name or a local checkpoint")
]
Seeds = Annotated[int | None, typer.Option(help="independent restarts of the matching")]
References = Annotated[
    Path | None, typer.Option(help="TSV of path or id, and transcript; for evaluation alone")
]
Force = Annotated[bool, typer.Option("--force", help="train even where the doctor says stop")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="a setting; may be given repeatedly"),
]
RunDir = Annotated[Path, typer.Argument(help="folder of a run")]


def main() -> None:
    """Entry point of ``wav2vec-u``."""
    app(prog_name="wav2vec-u")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(metadata.version("wav2vec-u"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    pass


def _add_run_command(name: str, until: str | None, description: str) -> None:
    """Add a verb that runs the pipeline up to a stage; all take the same options."""

    @app.command(name, help=description)
    def command(
        out: Out,
        audio: Audio = None,
        text: Text = None,
        language: Language = None,
        config: ConfigFile = None,
        encoder: EncoderName = None,
        seeds: Seeds = None,
        references: References = None,
        force: Force = False,
        settings: Set = None,
    ) -> None:
        from wav2vec_u.config import load_config
        from wav2vec_u.pipeline import Pipeline

        overrides = parse_settings(settings or [])
        if encoder is not None:
            set_value(overrides, "features.encoder", encoder)
        if seeds is not None:
            set_value(overrides, "matching.seeds", seeds)
        if language is not None:
            set_value(overrides, "language", language)
        console = Console()
        pipeline = Pipeline(
            load_config(config, **overrides),
            audio,
            text,
            language,
            out,
            references,
            force=force,
            console=console,
        )
        metrics = pipeline.run(until=until)
        if until is None:
            _show_result(metrics, out)


for _name, _until, _description in (
    ("run", None, "Make a recogniser from recordings and text; goes on where it was stopped."),
    ("corpus", "corpus", "Check the recordings."),
    ("silence", "silence", "Find the speech, and the stages before."),
    ("features", "features", "Turn speech into frames, and the stages before."),
    ("segments", "segments", "Cut frames into segments, and the stages before."),
    ("text", "text", "Turn text into phones."),
    ("match", "matching", "Learn the generator without labels, and the stages before."),
    ("graph", "graph", "Build the decoding graph of the text's words."),
    ("selftrain", "selftrain", "Train on what is understood, and the stages before."),
    ("decode", "decode", "Decode the phones of all recordings, and the stages before."),
    ("words", "words", "Decode the words of all recordings, and the stages before."),
    ("adapt", "adapt", "Teach the encoder what was understood, and the stages before."),
):
    _add_run_command(_name, _until, _description)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/demo"),
    seeds: Seeds = None,
) -> None:
    """Make a synthetic corpus, learn from it without labels, and show the result."""
    from wav2vec_u.demo.run import run_demo

    run_demo(out, seeds)


@app.command()
def transcribe(
    run_dir: RunDir,
    files: Annotated[list[Path], typer.Argument(help="audio files")],
    format_name: Annotated[
        str, typer.Option("--format", help="text, json, srt, vtt or textgrid")
    ] = "text",
    out: Annotated[
        Path | None, typer.Option(help="folder for a file each; else all goes to stdout")
    ] = None,
    alternatives: Annotated[
        int, typer.Option(min=0, max=100, help="other words told of every utterance, in json")
    ] = 0,
) -> None:
    """Recognise audio files with a finished run."""
    from wav2vec_u.decode.formats import FORMATS, format_transcript
    from wav2vec_u.recognizer import Recognizer
    from wav2vec_u.runtime.disk import explain_disk_errors
    from wav2vec_u.runtime.files import write_text

    if format_name not in FORMATS:
        raise UserError(f"--format: {format_name} is unknown; use one of {', '.join(FORMATS)}")
    if alternatives and format_name != "json":
        raise UserError(f"--alternatives: {format_name} has no place for them; use --format json")
    if out is None and len(files) > 1 and format_name not in _JOINABLE:
        raise UserError(f"--out: name a folder, since {format_name} holds one recording a file")
    if out is not None and len({path.stem for path in files}) < len(files):
        raise UserError("--out: two of the files have one name; transcribe them into two folders")
    recognizer = Recognizer.load(run_dir)
    failed = 0
    for path in files:
        try:
            rendered = format_transcript(recognizer.transcribe(path, alternatives), format_name)
        except UserError as error:  # the other files are transcribed all the same
            _complain(str(error))
            failed += 1
            continue
        if out is not None:
            with explain_disk_errors(out):
                out.mkdir(parents=True, exist_ok=True)
                write_text(out / f"{path.stem}{_SUFFIXES[format_name]}", rendered)
        elif format_name == "text" and len(files) > 1:
            for line in rendered.splitlines():
                typer.echo(f"{path}\t{line}")
        else:
            typer.echo(rendered, nl=False)
    if failed:
        raise typer.Exit(USER_ERROR)


@app.command()
def evaluate(run_dir: RunDir, references: References = None) -> None:
    """Compare a finished run with transcripts."""
    from wav2vec_u.pipeline import Pipeline

    pipeline = Pipeline.from_run(run_dir, references, console=Console())
    metrics = pipeline.run(only="evaluate")
    if "per" not in metrics:
        raise UserError("--references: name a TSV of path or id, and transcript")
    _show_result(metrics, run_dir)


@app.command()
def probe(
    encoder: Annotated[
        str, typer.Argument(help="folder of an encoder, or a Hugging Face name or checkpoint")
    ],
    references: Annotated[Path, typer.Option(help="TSV with the columns path, split and text")],
    out: Annotated[Path, typer.Option(help="folder of the figures")],
    audio: Annotated[
        Path | None,
        typer.Option(help="folder or manifest of the recordings; else they are found by the TSV"),
    ] = None,
    language: Language = None,
    config: ConfigFile = None,
    settings: Set = None,
) -> None:
    """Measure with transcripts what every block of an encoder knows of phones."""
    import torch

    from wav2vec_u.config import load_config
    from wav2vec_u.probe import stage

    overrides = parse_settings(settings or [])
    if language is not None:
        set_value(overrides, "language", language)
    loaded = load_config(config, **overrides)
    torch.set_num_threads(loaded.threads)
    report = stage.run(out, encoder, references, loaded, audio)
    Console().print(stage.show(report))
    metrics = report.metrics
    typer.echo(
        f"layer {metrics['probe_layer']}: {metrics['probe_per']:.1f} % phone errors "
        f"(MFCC: {metrics['probe_per_mfcc']:.1f} %)"
    )
    if "label_free_layer" in metrics:
        typer.echo(
            f"chosen without labels: layer {metrics['label_free_layer']}, "
            f"{metrics['label_free_regret']:+.1f} points"
        )
    typer.echo(f"figures: {out / stage.METRICS_NAME}, {out / stage.PLOT_NAME}")


@app.command()
def finetune(
    encoder: Annotated[
        str, typer.Argument(help="folder of an encoder, or a Hugging Face name or checkpoint")
    ],
    references: Annotated[
        Path, typer.Option(help="TSV with the columns path, text and, for a test, split")
    ],
    out: Annotated[Path, typer.Option(help="folder of the model; an unfinished training goes on")],
    units: Annotated[str | None, typer.Option(help="phones or letters")] = None,
    audio: Annotated[
        Path | None,
        typer.Option(help="folder or manifest of the recordings; else they are found by the TSV"),
    ] = None,
    language: Language = None,
    config: ConfigFile = None,
    settings: Set = None,
) -> None:
    """Train an encoder with transcripts (CTC), and measure it on split test."""
    import torch

    from wav2vec_u.config import load_config
    from wav2vec_u.finetune.stage import finetune_artifact

    overrides = parse_settings(settings or [])
    if units is not None:
        set_value(overrides, "finetune.units", units)
    if language is not None:
        set_value(overrides, "language", language)
    loaded = load_config(config, **overrides)
    torch.set_num_threads(loaded.threads)
    metrics = finetune_artifact(out, encoder, references, loaded, audio)
    for key, name in (("per", "phone"), ("cer", "letter"), ("wer", "word")):
        if metrics.get(key) is not None:
            low, high = metrics[f"{key}_low"], metrics[f"{key}_high"]
            typer.echo(
                f"{name} error rate {metrics[key]:.1f} % [{low:.1f}, {high:.1f}] "
                f"on {metrics['test_utterances']} test recordings"
            )
    typer.echo(f"validation error rate {metrics['validation_error_rate']:.1f} %")
    typer.echo(f"model: {out}")


@app.command()
def pretrain(
    audio: Annotated[
        list[Path], typer.Option(help="folder or manifest of recordings; may be given repeatedly")
    ],
    out: Annotated[Path, typer.Option(help="folder of the training; an unfinished one goes on")],
    start: Annotated[Path | None, typer.Option(help="folder of an encoder to go on from")] = None,
    config: ConfigFile = None,
    settings: Set = None,
) -> None:
    """Learn an encoder from audio alone; several GPUs or machines by torchrun."""
    from wav2vec_u.config import load_config
    from wav2vec_u.pretrain.stage import ENCODER_NAME
    from wav2vec_u.pretrain.stage import pretrain as run_pretrain

    loaded = load_config(config, **parse_settings(settings or []))
    metrics = run_pretrain(audio, out, loaded, start)
    for key, value in metrics.items():
        typer.echo(f"{key}: {value}")
    typer.echo(f"encoder: {out / ENCODER_NAME}")


@app.command()
def report(run_dir: RunDir) -> None:
    """Write a page that shows a run."""
    from wav2vec_u.report import write_report
    from wav2vec_u.runtime.disk import explain_disk_errors

    with explain_disk_errors(run_dir):
        typer.echo(write_report(run_dir))


@app.command()
def doctor(
    run_dir: Annotated[
        Path | None, typer.Argument(help="folder of a run; without it, the installation is checked")
    ] = None,
) -> None:
    """Find out what would spoil, or has spoilt, a run."""
    from wav2vec_u.doctor import diagnose, print_findings

    findings = check_installation() if run_dir is None else diagnose(run_dir)
    print_findings(findings)
    if any(finding.level == "stop" for finding in findings):
        raise typer.Exit(USER_ERROR)


def check_installation() -> list[Finding]:
    """Return what is installed, and what it can do."""
    from wav2vec_u.doctor import Finding
    from wav2vec_u.runtime.device import pick_device
    from wav2vec_u.text.phonemize import EspeakPhonemizer

    names = ("wav2vec-u", "torch", "transformers", "numpy")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    findings = [Finding("ok", "versions", f"Python {platform.python_version()}, {versions}")]
    espeak = EspeakPhonemizer()
    if espeak.is_available():
        findings.append(Finding("ok", "espeak", f"espeak-ng {espeak.version()}"))
    else:
        findings.append(
            Finding(
                "warn",
                "espeak",
                "is not installed",
                "run `pip install 'wav2vec-u[text]'`, or set text.phonemizer",
            )
        )
    cores = os.cpu_count() or 1
    device = f"{pick_device('auto')} is used by `device: auto`; {cores} CPU cores"
    findings.append(Finding("ok", "device", device))
    return findings


def parse_settings(assignments: list[str]) -> dict[str, Any]:
    """Turn ``key.path=value`` into nested settings; values are read as YAML.

    >>> parse_settings(["matching.gan.updates=100", "language=de"])
    {'matching': {'gan': {'updates': 100}}, 'language': 'de'}

    Raises
    ------
    UserError
        If one has no ``=``, is no YAML, or sets a key inside a value.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, written = assignment.partition("=")
        if not sign or not key:
            raise UserError(f"--set {assignment}: write it as key.path=value")
        try:
            set_value(settings, key, yaml.safe_load(written))
        except yaml.YAMLError as error:
            raise UserError(f"--set {assignment}: its value is not valid YAML") from error
    return settings


def set_value(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested settings."""
    *sections, last = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise UserError(f"--set {key}: {section} was already set to a value")
    settings[last] = value


def _show_result(metrics: dict[str, Any], out: Path) -> None:
    if metrics.get("per") is not None:
        line = f"phone error rate {metrics['per']:.1f} %"
        if metrics.get("per_ceiling") is not None:
            line += f" (labelled ceiling {metrics['per_ceiling']:.1f} %)"
        typer.echo(line)
    if metrics.get("wer") is not None:
        typer.echo(f"word error rate {metrics['wer']:.1f} %")
    typer.echo(f"report: {out / 'report.html'}")


def _complain(message: str) -> None:
    typer.echo(f"wav2vec-u: {message}", file=sys.stderr)
