"""The ordered list of stages: what each one reads, and how it is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wav2vec_u.adapt import stage as adapt
from wav2vec_u.config import RunConfig
from wav2vec_u.corpus import stage as corpus
from wav2vec_u.corpus.sources import read_sources
from wav2vec_u.decode import stage as decode
from wav2vec_u.encoder.shipped import identify_encoder
from wav2vec_u.evaluate import stage as evaluate
from wav2vec_u.features import stage as features
from wav2vec_u.graph import stage as graph
from wav2vec_u.matching import stage as matching
from wav2vec_u.matching.mfcc_codes import Recordings
from wav2vec_u.matching.synthetic import Speaker
from wav2vec_u.runtime import artifact
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.inputs import hash_files, stamp_files
from wav2vec_u.segments import stage as segments
from wav2vec_u.selftrain import stage as selftrain
from wav2vec_u.silence import stage as silence
from wav2vec_u.text import stage as text
from wav2vec_u.text.source import find_files
from wav2vec_u.words import stage as words


@dataclass(frozen=True)
class RunInputs:
    """What a run is made from; the content of ``run.json``.

    Attributes
    ----------
    config : RunConfig
    audio, text : Path or None
        Absolute. None where only stages run that do not read it.
    language : str
    references : Path or None
        Transcripts for evaluation, beside those that `audio` may hold.
    out : Path
        Folder of the run.
    """

    config: RunConfig
    audio: Path | None
    text: Path | None
    language: str
    references: Path | None
    out: Path

    def as_record(self) -> dict[str, Any]:
        """Return what ``run.json`` keeps."""
        return {
            "config": self.config.model_dump(mode="json"),
            "audio": _str_or_none(self.audio),
            "text": _str_or_none(self.text),
            "language": self.language,
            "references": _str_or_none(self.references),
        }

    def given_audio(self) -> Path:
        """Return the recordings, or say that they were not given."""
        if self.audio is None:
            raise UserError("--audio: give the folder or the manifest of the recordings")
        return self.audio

    def given_text(self) -> Path:
        """Return the text, or say that it was not given."""
        if self.text is None:
            raise UserError("--text: give a text file, or a folder of .txt files")
        return self.text

    def given_references(self) -> Path:
        """Return the file of transcripts: the one given for that, or the manifest."""
        return self.references or self.given_audio()


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    name : str
        Of the stage, its section of the settings and its folder.
    start : callable
        Runs it: what may be written to, and what is read.
    needs : tuple of str
        Stages whose artefacts it reads.
    figures : str
        Its key figures, a format string of its counts.
    resumable : bool
        True if it goes on from what an interrupted run of it left.
    reads : callable
        Fingerprints of what it reads from outside the run, by name.
    """

    name: str
    start: Callable[[Work, RunInputs], None]
    needs: tuple[str, ...]
    figures: str
    resumable: bool = False
    reads: Callable[[RunInputs], dict[str, str]] = lambda run: {}


def _start_corpus(work: Work, run: RunInputs) -> None:
    corpus.run(work, run.config.corpus, run.given_audio())


def _read_audio(run: RunInputs) -> dict[str, str]:
    # Of a manifest, what it says of the recordings and not its bytes: transcripts in it must not
    # make the model stale, let alone take part in it.
    sources, rejections = read_sources(run.given_audio())
    return {
        "recordings": stamp_files(source.audio for source in sources),
        "manifest": artifact.fingerprint(
            sources=[(item.id, item.split, item.speaker) for item in sources],
            rejections=[(item.what, item.reason) for item in rejections],
        ),
    }


def _start_silence(work: Work, run: RunInputs) -> None:
    silence.run(work, run.config.silence, run.out / "corpus")


def _start_features(work: Work, run: RunInputs) -> None:
    features.run(work, run.config.features, run.out / "silence", run.config.silence.mode)


def _read_encoder(run: RunInputs) -> dict[str, str]:
    return {"encoder": identify_encoder(run.config.features.encoder)}


def _start_segments(work: Work, run: RunInputs) -> None:
    segments.run(work, run.config.segments, run.out / "features")


def _start_text(work: Work, run: RunInputs) -> None:
    text.run(work, run.config.text, run.given_text(), run.language)


def _read_text(run: RunInputs) -> dict[str, str]:
    found = {"text": hash_files(find_files(run.given_text())), "language": run.language}
    if run.config.text.lexicon is not None:
        found["lexicon"] = hash_files([run.config.text.lexicon])
    return found


def _start_matching(work: Work, run: RunInputs) -> None:
    speaker = None
    if run.config.matching.method == "synthetic":
        speaker = Speaker(
            run.given_text(),
            run.language,
            run.config.features,
            run.config.silence.mode,
            run.out / "segments",
        )
    recordings = Recordings(run.out / "silence", run.config.silence.mode)
    matching.run(
        work, run.config.matching, run.out / "segments", run.out / "text", speaker, recordings
    )


def _start_graph(work: Work, run: RunInputs) -> None:
    graph.run(work, run.config.graph, run.given_text(), run.language, run.out / "text")


def _read_extra(run: RunInputs) -> dict[str, str]:
    # Words are decoded as soon as it is installed.
    return {"extra": str(graph.installed())}


def _start_selftrain(work: Work, run: RunInputs) -> None:
    selftrain.run(
        work,
        run.config.selftrain,
        features=run.out / "features",
        segments=run.out / "segments",
        text=run.out / "text",
        matching=run.out / "matching",
        graph=run.out / "graph",
    )


def _start_decode(work: Work, run: RunInputs) -> None:
    decode.run(
        work,
        run.out / "features",
        run.out / "segments",
        run.out / "text",
        run.out / "selftrain",
    )


def _start_words(work: Work, run: RunInputs) -> None:
    words.run(
        work,
        run.config.words,
        features=run.out / "features",
        segments=run.out / "segments",
        text=run.out / "text",
        selftrain=run.out / "selftrain",
        graph=run.out / "graph",
    )


def _start_adapt(work: Work, run: RunInputs) -> None:
    adapt.run(
        work,
        run.config.adapt,
        run.config.words,
        encoder=run.config.features.encoder,
        whole=run.config.silence.mode == "mask",
        language=run.language,
        silence=run.out / "silence",
        features=run.out / "features",
        segments=run.out / "segments",
        text=run.out / "text",
        graph=run.out / "graph",
        selftrain=run.out / "selftrain",
        decode=run.out / "decode",
        words=run.out / "words",
    )


def _start_evaluate(work: Work, run: RunInputs) -> None:
    evaluate.run(
        work,
        run.config.evaluate,
        run.given_references(),
        corpus=run.out / "corpus",
        segments=run.out / "segments",
        text=run.out / "text",
        selftrain=run.out / "selftrain",
        decode=run.out / "decode",
        words=run.out / "words",
        adapt=run.out / "adapt",
        text_config=run.config.text,
        language=run.language,
    )


def _read_references(run: RunInputs) -> dict[str, str]:
    return {"references": hash_files([run.given_references()])}


STAGES = (
    Stage(
        "corpus",
        _start_corpus,
        needs=(),
        figures="{recordings} recordings, {hours:.2f} h",
        reads=_read_audio,
    ),
    Stage(
        "silence",
        _start_silence,
        needs=("corpus",),
        figures="{utterances} utterances, {hours:.2f} h of speech ({speech_share:.0%})",
    ),
    Stage(
        "features",
        _start_features,
        needs=("silence",),
        figures="{frames} frames of {dim} numbers, {frame_rate_hz:g} Hz",
        resumable=True,
        reads=_read_encoder,
    ),
    Stage(
        "segments",
        _start_segments,
        needs=("features",),
        figures="{segments} segments, {segment_rate_hz:.1f} Hz",
    ),
    Stage(
        "text",
        _start_text,
        needs=(),
        figures="{sentences} sentences, {word_types} words, {phone_types} phones",
        reads=_read_text,
    ),
    Stage(
        "matching",
        _start_matching,
        needs=("segments", "text"),
        figures="restart {selected_seed} of {seeds} selected",
        resumable=True,
    ),
    Stage(
        "graph",
        _start_graph,
        needs=("text",),
        figures="{words} words, {states} states",
        reads=_read_extra,
    ),
    Stage(
        "selftrain",
        _start_selftrain,
        needs=("features", "segments", "text", "matching", "graph"),
        figures="{rounds} rounds",
        resumable=True,
    ),
    Stage(
        "decode",
        _start_decode,
        needs=("features", "segments", "text", "selftrain"),
        figures="{utterances} utterances, {phones} phones",
    ),
    Stage(
        "words",
        _start_words,
        needs=("features", "segments", "text", "selftrain", "graph"),
        figures="{utterances} utterances, {words} words",
    ),
    Stage(
        "adapt",
        _start_adapt,
        needs=(
            "silence",
            "features",
            "segments",
            "text",
            "graph",
            "selftrain",
            "decode",
            "words",
        ),
        figures="{rounds} rounds",
        resumable=True,
        reads=_read_encoder,
    ),
    Stage(
        "evaluate",
        _start_evaluate,
        needs=("corpus", "segments", "text", "selftrain", "decode", "words", "adapt"),
        figures="PER {per:.1f} % on {utterances_evaluated} recordings",
        reads=_read_references,
    ),
)


def stages_until(name: str | None) -> list[Stage]:
    """Return a stage and all it needs, in order; all stages for None.

    Raises
    ------
    UserError
        If there is no stage of this name.
    """
    if name is None:
        return list(STAGES)
    names = [stage.name for stage in STAGES]
    if name not in names:
        raise UserError(f"there is no stage {name!r}; the stages are {', '.join(names)}")
    wanted = {name}
    for stage in reversed(STAGES):
        if stage.name in wanted:
            wanted.update(stage.needs)
    return [stage for stage in STAGES if stage.name in wanted]


def _str_or_none(path: Path | None) -> str | None:
    return None if path is None else str(path)
