"""The evaluate stage: error rates against transcripts, which no other stage has seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from wav2vec_u.config import EvaluateConfig, TextConfig
from wav2vec_u.corpus.manifest import Recording, read_recordings
from wav2vec_u.corpus.references import read_references
from wav2vec_u.corpus.rejections import Rejection, count_by_reason, write_rejections
from wav2vec_u.decode.greedy import Decoded
from wav2vec_u.decode.hypotheses import (
    Hypothesis,
    join_recordings,
    read_hypotheses,
    recording_of,
    time_order,
)
from wav2vec_u.decode.stage import decode_greedily, decode_utterance
from wav2vec_u.decode.transcript import WordSpan
from wav2vec_u.evaluate.ceiling import Vectors, train_ceiling
from wav2vec_u.evaluate.confidence import right_words, separation
from wav2vec_u.evaluate.confusion import confusion_table, count_confusions
from wav2vec_u.evaluate.error_rate import (
    Errors,
    bootstrap_interval,
    count_errors,
    percent,
    pool,
)
from wav2vec_u.evaluate.pronounce import Pronouncer
from wav2vec_u.evaluate.steps import Step, measure_steps
from wav2vec_u.matching.generator import Generator
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_jsonl
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.selftrain.stage import START_NAME
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.text.normalize import Normalizer
from wav2vec_u.words.hypotheses import WordHypothesis, read_word_hypotheses

TRAIN_SPLIT = "train"  # what the ceiling learns from
STEPS_NAME = "steps.json"

Hear = Callable[[NDArray[np.float32], NDArray[np.float32]], Decoded]


def run(
    work: Work,
    config: EvaluateConfig,
    references: Path,
    *,
    corpus: Path,
    segments: Path,
    text: Path,
    selftrain: Path,
    decode: Path,
    words: Path,
    adapt: Path,
    text_config: TextConfig,
    language: str,
) -> None:
    """Compare the hypotheses of one split with its transcripts.

    Writes ``metrics.json`` (percentages 0-100), ``steps.json`` (see `steps.measure_steps`),
    ``utterances.jsonl`` (id, reference, hypothesis, errors), ``confusion.json`` and
    ``rejected.jsonl``. What is scored are the phones of the last step: those of the words, where
    words were decoded, by the fine-tuned encoder, where that was taken.
    A recording of the split that has a transcript but no hypothesis, since no speech was found in
    it, counts as deleted.

    Parameters
    ----------
    work : Work
        Folder to write to; gets the metrics as counts.
    config : EvaluateConfig
    references : Path
        Manifest with transcripts.
    corpus, segments, text, selftrain, decode, words, adapt : Path
        Finished artefacts.
    text_config : TextConfig
        How the text was turned into phones; the transcripts are turned so too.
    language : str

    Raises
    ------
    UserError
        If the split does not exist, or none of its recordings has a transcript or a hypothesis.
    """
    recordings = read_recordings(corpus)
    transcripts = read_references(references, recordings)
    chosen = _choose(recordings, transcripts, config.split, references)
    pronouncer = Pronouncer(text, text_config, language)
    spoken, rejected = _pronounce(chosen, transcripts, pronouncer)
    if not spoken:
        raise UserError(
            f"{references}: no transcript of split {config.split} could be turned into phones; "
            f"is it in the language {language}?"
        )
    known = {recording.id for recording in recordings}

    def joined(items: Iterable[Hypothesis]) -> dict[str, Hypothesis]:
        # Of what is scored alone: what was heard in all splits may be more than memory holds.
        scored = (item for item in items if item.id in spoken or item.recording in spoken)
        return join_recordings(scored, known)

    hypotheses = joined(read_hypotheses(decode))
    missing = [name for name in spoken if name not in hypotheses]
    if len(missing) == len(spoken):
        raise UserError(
            f"{decode}: has no hypothesis for any recording of split {config.split} that "
            f"{references} transcribes; run the decode stage again"
        )

    store = SegmentStore(segments)
    inventory = PhoneText(text).phones
    start = FrameModel.load(selftrain / START_NAME)
    by_step = _before_self_training(_Recordings(store, list(spoken)), spoken, start, inventory)
    by_step["hmm"] = {name: _phones_of(hypotheses.get(name)) for name in spoken}
    in_words = joined(map(_as_phones, read_word_hypotheses(words)))
    if in_words:
        by_step["words"] = {name: _phones_of(in_words.get(name)) for name in spoken}
    by_encoder = joined(map(_as_phones, read_word_hypotheses(adapt)))
    if by_encoder:
        by_step["encoder"] = {name: _phones_of(by_encoder.get(name)) for name in spoken}
    heard = list(by_step.values())[-1]
    metrics, errors = _score(spoken, heard, config)
    said = {name: transcripts[name] for name in spoken}
    metrics |= _word_rates(adapt if by_encoder and in_words else words, said, language, config)
    steps = _steps(spoken, by_step, config)
    write_json(work.folder / STEPS_NAME, steps)
    metrics |= {f"per_{row['step']}": row["per"] for row in steps}
    metrics |= {
        "utterances_evaluated": len(spoken),
        "utterances_without_hypothesis": len(missing),
        "reference_phones": pool(list(errors.values())).reference_phones,
        "reference_phones_outside_inventory": _outside(spoken, inventory),
        "phone_rate_hz": _phone_rate(spoken, _Recordings(store, list(spoken))),
    }
    if config.ceiling:
        train = [
            recording
            for recording in recordings
            if recording.split == TRAIN_SPLIT != config.split and recording.id in transcripts
        ]
        labelled, _ = _pronounce(train, transcripts, pronouncer)
        metrics |= _ceiling(store, labelled, spoken, inventory, start.generator, config)
        if "per_ceiling" in metrics:
            metrics["gap"] = metrics["per"] - metrics["per_ceiling"]

    metrics = {key: _rounded(value) for key, value in metrics.items()}
    write_json(work.folder / "metrics.json", metrics)
    write_json(
        work.folder / "confusion.json",
        confusion_table(count_confusions(spoken.values(), heard.values())),
    )
    write_jsonl(
        work.folder / "utterances.jsonl",
        (
            {
                "id": name,
                "reference": spoken[name],
                "hypothesis": heard[name],
                "errors": errors[name].total,
            }
            for name in spoken
        ),
    )
    write_rejections(work.folder, rejected)
    work.counts.update(metrics, rejected=count_by_reason(rejected))


class _Recordings:
    """The segments of whole recordings, put together from their utterances when asked for."""

    def __init__(self, store: SegmentStore, names: Sequence[str]) -> None:
        self._store = store
        wanted = set(names)
        pieces: dict[str, list[int]] = {}
        for index, utterance in enumerate(store.ids):
            name = utterance if utterance in wanted else recording_of(utterance)
            if name in wanted:
                pieces.setdefault(name, []).append(index)
        self._pieces = [
            sorted(pieces.get(name, []), key=lambda i: time_order(store.ids[i])) for name in names
        ]
        self._lengths = [sum(len(store.codes(i)) for i in group) for group in self._pieces]

    def __len__(self) -> int:
        return len(self._pieces)

    def length(self, index: int) -> int:
        """Segments of one recording."""
        return self._lengths[index]

    def seconds(self, index: int) -> float:
        """Duration of the speech of one recording."""
        times = [self._store.times(i) for i in self._pieces[index]]
        return float(sum((item[:, 1] - item[:, 0]).sum() for item in times))

    def heard(self, index: int, hear: Hear) -> list[str]:
        """Phones of one recording, as `hear` finds them in its utterances.

        Where scores are not finite, nothing is heard, as in the decode stage.
        """
        phones: list[str] = []
        for i in self._pieces[index]:
            with suppress(FloatingPointError):
                decoded = hear(self._store.vectors(i), self._store.times(i))
                phones += [span.phone for span in decoded.spans]
        return phones

    def vectors(self, index: int) -> Vectors:
        """Segment vectors of one recording, (S, P)."""
        parts = [self._store.vectors(i) for i in self._pieces[index]]
        return np.concatenate(parts) if parts else np.zeros((0, self._store.dim), np.float32)


def _choose(
    recordings: Sequence[Recording], transcripts: dict[str, str], split: str, references: Path
) -> list[Recording]:
    splits = sorted({recording.split for recording in recordings})
    if split not in splits:
        raise UserError(
            f"evaluate.split: no recording is in split {split}; there is {', '.join(splits)}"
        )
    chosen = [
        recording
        for recording in recordings
        if recording.split == split and recording.id in transcripts
    ]
    if not chosen:
        raise UserError(
            f"{references}: transcribes no recording of split {split}; "
            "its ids or paths must be those of the recordings"
        )
    return chosen


def _pronounce(
    recordings: Sequence[Recording], transcripts: dict[str, str], pronouncer: Pronouncer
) -> tuple[dict[str, list[str]], list[Rejection]]:
    """Turn transcripts into phones without silence; list those that cannot be."""
    spoken: dict[str, list[str]] = {}
    rejected = []
    found = pronouncer.pronounce([transcripts[recording.id] for recording in recordings])
    for recording, phones in zip(recordings, found, strict=True):
        if phones:
            spoken[recording.id] = phones
        else:
            detail = f"cannot be turned into phones: {transcripts[recording.id][:80]}"
            rejected.append(Rejection(recording.id, "unpronounceable", detail))
    return spoken, rejected


def _phones_of(hypothesis: Hypothesis | None) -> list[str]:
    return hypothesis.phones if hypothesis is not None else []


def _score(
    spoken: dict[str, list[str]], heard: dict[str, list[str]], config: EvaluateConfig
) -> tuple[dict[str, Any], dict[str, Errors]]:
    errors = {name: count_errors(spoken[name], heard[name]) for name in spoken}
    total = pool(list(errors.values()))
    low, high = bootstrap_interval(
        list(errors.values()),
        config.bootstrap_samples,
        numpy_generator(config.seed, "evaluate", "bootstrap"),
    )
    metrics = {
        "per": total.rate,
        "per_low": low,
        "per_high": high,
        "per_insertions": percent(total.insertions, total.reference_phones),
        "per_deletions": percent(total.deletions, total.reference_phones),
        "per_substitutions": percent(total.substitutions, total.reference_phones),
    }
    return metrics, errors


def _word_rates(
    folder: Path, transcripts: dict[str, str], language: str, config: EvaluateConfig
) -> dict[str, float]:
    """Word error rate with its interval, and what confidence is worth; nothing without words."""
    heard: dict[str, list[WordSpan]] = {name: [] for name in transcripts}
    decoded = False
    hypotheses = read_word_hypotheses(folder)
    for hypothesis in sorted(hypotheses, key=lambda piece: time_order(piece.id)):
        decoded = True
        # A recording that was not cut has the id of its one utterance, whatever it looks like.
        name = hypothesis.id if hypothesis.id in heard else hypothesis.recording
        if name in heard:
            heard[name] += hypothesis.spans
    if not decoded:
        return {}
    normalize = Normalizer(language)
    references = [normalize(transcript).split() for transcript in transcripts.values()]
    words_heard = [[span.word for span in spans] for spans in heard.values()]
    errors = list(map(count_errors, references, words_heard))
    right = chain.from_iterable(map(right_words, references, words_heard))
    confidences = [span.confidence for spans in heard.values() for span in spans]
    rng = numpy_generator(config.seed, "evaluate", "bootstrap of words")
    low, high = bootstrap_interval(errors, config.bootstrap_samples, rng)
    return {
        "wer": pool(errors).rate,
        "wer_low": low,
        "wer_high": high,
        "word_confidence_auc": separation(confidences, list(right)),
    }


def _before_self_training(
    recordings: _Recordings,
    spoken: dict[str, list[str]],
    start: FrameModel,
    inventory: list[str],
) -> dict[str, dict[str, list[str]]]:
    """Phones of every recording by arg-max, and as the phone trigram reads them."""
    ways: dict[str, Hear] = {
        "greedy": lambda vectors, times: decode_greedily(
            start.generator, vectors, times, inventory
        ),
        "lm": lambda vectors, times: decode_utterance(start, vectors, times, inventory),
    }
    return {
        step: {name: recordings.heard(index, hear) for index, name in enumerate(spoken)}
        for step, hear in ways.items()
    }


def _as_phones(hypothesis: WordHypothesis) -> Hypothesis:
    return Hypothesis(
        hypothesis.id, hypothesis.recording, hypothesis.split, hypothesis.phones, log_prob=0.0
    )


def _steps(
    spoken: dict[str, list[str]],
    by_step: dict[str, dict[str, list[str]]],
    config: EvaluateConfig,
) -> list[dict[str, object]]:
    steps = [
        Step(name, [count_errors(spoken[item], phones[item]) for item in spoken])
        for name, phones in by_step.items()
    ]
    rng = numpy_generator(config.seed, "evaluate", "bootstrap of steps")
    return measure_steps(steps, config.bootstrap_samples, rng)


def _outside(spoken: dict[str, list[str]], inventory: Sequence[str]) -> int:
    known = set(inventory)
    return sum(phone not in known for phones in spoken.values() for phone in phones)


def _phone_rate(spoken: dict[str, list[str]], recordings: _Recordings) -> float:
    phones = seconds = 0.0
    for index, reference in enumerate(spoken.values()):
        if recordings.length(index):  # without speech there is no rate
            phones += len(reference)
            seconds += recordings.seconds(index)
    return phones / seconds if seconds else float("nan")


def _ceiling(
    store: SegmentStore,
    labelled: dict[str, list[str]],
    spoken: dict[str, list[str]],
    inventory: list[str],
    generator: Generator,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Error rate of the labelled ceiling on the evaluated recordings; nothing without labels."""
    ids = {phone: number for number, phone in enumerate(inventory)}
    names = [name for name, phones in labelled.items() if all(phone in ids for phone in phones)]
    ceiling = train_ceiling(
        _Recordings(store, names),
        [[ids[phone] for phone in labelled[name]] for name in names],
        n_phones=len(inventory),
        build=partial(_same_architecture, generator),
        seed=config.seed,
        stride=generator.stride,
    )
    if ceiling is None:
        return {}
    test = _Recordings(store, list(spoken))
    errors = [
        count_errors(
            reference, [inventory[label] for label in ceiling.transcribe(test.vectors(index))]
        )
        for index, reference in enumerate(spoken.values())
    ]
    return {
        "per_ceiling": pool(errors).rate,
        "ceiling_train_utterances": ceiling.train_utterances,
        "ceiling_utterances_left_out": ceiling.left_out,
    }


def _same_architecture(generator: Generator, in_dim: int, outputs: int) -> nn.Module:
    # Padded as the reference pads, an even kernel has one output more, and the last phone of an
    # utterance is not lost where the ceiling answers a step late.
    return Generator(
        **{
            **generator.settings,
            "in_dim": in_dim,
            "n_phones": outputs,
            "reference_padding": True,
        }
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None  # JSON has no NaN
    return value
