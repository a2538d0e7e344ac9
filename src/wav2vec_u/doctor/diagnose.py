"""Read what a run has made so far and put every check to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from wav2vec_u.config import RunConfig
from wav2vec_u.corpus.manifest import read_recordings
from wav2vec_u.decode.hypotheses import read_hypotheses
from wav2vec_u.doctor import speech_checks, text_checks
from wav2vec_u.doctor.findings import Finding
from wav2vec_u.doctor.ngram_distance import split_half_distances
from wav2vec_u.features.store import FrameStore
from wav2vec_u.recognizer import read_run_config
from wav2vec_u.runtime.artifact import read_record
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.silence.speech import read_speech
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.text.lexicon import read_lexicon

_SAMPLED_UTTERANCES = 100
_SAMPLED_FRAMES = 2_000  # of each sampled utterance
_SAMPLED_SENTENCES = 60_000


def diagnose(run_dir: Path) -> list[Finding]:
    """Check every finished stage of a run, the cheap ones as well as the trained one.

    Parameters
    ----------
    run_dir : Path
        Folder of a run, finished or not.

    Returns
    -------
    list of Finding
        In the order of the stages; a stage that has not run gives a warning that says so.

    Raises
    ------
    UserError
        If the folder does not exist or is no run.
    """
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: there is no such folder; give the folder of a run")
    config = read_run_config(run_dir)
    stages: dict[str, Callable[[Path, RunConfig], list[Finding]]] = {
        "corpus": _corpus,
        "silence": _silence,
        "features": _features,
        "segments": _segments,
        "text": _text,
        "decode": _decode,
    }
    findings = []
    for stage, check in stages.items():
        if read_record(run_dir / stage) is None:
            findings.append(Finding("warn", stage, "has not run yet", "not checked"))
            continue
        try:
            findings += check(run_dir, config)
        except UserError as error:
            findings.append(Finding("stop", stage, str(error), "run the stage again"))
    return findings


def _corpus(run_dir: Path, config: RunConfig) -> list[Finding]:
    kept = len(read_recordings(run_dir / "corpus"))
    return [speech_checks.check_rejected("recordings", kept, _reasons(run_dir / "corpus"))]


def _silence(run_dir: Path, config: RunConfig) -> list[Finding]:
    utterances = read_speech(run_dir / "silence")
    seconds = {
        utterance.id: sum(end - start for start, end in utterance.spans) for utterance in utterances
    }
    learned = sum(seconds[item.id] for item in utterances if item.split == "train")
    findings = [
        speech_checks.check_audio_amount(learned / 3600),
        speech_checks.check_rejected("speech", len(utterances), _reasons(run_dir / "silence")),
    ]
    if config.silence.method != "none" and read_record(run_dir / "corpus") is not None:
        lengths = [recording.seconds for recording in read_recordings(run_dir / "corpus")]
        speech = sum(seconds.values())
        findings.append(speech_checks.check_silence(speech, sum(lengths), len(lengths)))
    return findings


def _features(run_dir: Path, config: RunConfig) -> list[Finding]:
    store = FrameStore(run_dir / "features")
    rng = numpy_generator(0, "doctor", "frames")
    number = min(len(store), _SAMPLED_UTTERANCES)
    chosen = rng.choice(len(store), size=number, replace=False)
    sample = [store.frames(int(index))[:_SAMPLED_FRAMES] for index in np.sort(chosen)]
    rejected = speech_checks.check_rejected(
        "utterances with frames", len(store), _reasons(run_dir / "features")
    )
    return [rejected, *speech_checks.check_frames(sample)]


def _segments(run_dir: Path, config: RunConfig) -> list[Finding]:
    frames = config.segments.boundaries == "frames"
    if frames and config.matching.method == "synthetic":
        return []  # which reads frames: neither clusters nor rates matter
    store = SegmentStore(run_dir / "segments")
    counts = np.zeros(config.segments.clusters, dtype=np.int64)
    n_segments = n_frames = 0
    for index in range(len(store)):
        codes, bounds = store.codes(index), store.bounds(index)
        counts += np.bincount(codes, minlength=len(counts))
        n_segments += len(codes)
        n_frames += int((bounds[:, 1] - bounds[:, 0]).sum())
    findings = [] if frames else [speech_checks.check_clusters(counts)]
    if n_frames and read_record(run_dir / "features") is not None:
        seconds = n_frames / FrameStore(run_dir / "features").frame_rate_hz
        findings.append(speech_checks.check_segment_rate(n_segments / seconds))
    return findings


def _text(run_dir: Path, config: RunConfig) -> list[Finding]:
    folder = run_dir / "text"
    text = PhoneText(folder)
    words = list(read_lexicon(folder))
    rng = numpy_generator(0, "doctor", "text")
    number = min(len(text), _SAMPLED_SENTENCES)
    chosen = np.sort(rng.choice(len(text), size=number, replace=False))
    sentences: Sequence[np.ndarray] = [text.sentence(int(index)) for index in chosen]
    return [
        text_checks.check_text_amount(len(text)),
        # Many sentences hold a word too rare to be kept, and are not missed.
        speech_checks.check_rejected(
            "text lines", len(text), _reasons(folder), warn_above=0.6, stop_above=0.95
        ),
        text_checks.check_inventory(text.phones),
        text_checks.check_vocabulary(len(words)),
        text_checks.check_script(words, config.language),
        text_checks.check_language(words, config.language),
        text_checks.check_noise_floor(split_half_distances(sentences, len(text.phones), rng)),
    ]


def _decode(run_dir: Path, config: RunConfig) -> list[Finding]:
    if read_record(run_dir / "silence") is None:
        return []
    phones = sum(len(item.spans) for item in read_hypotheses(run_dir / "decode"))
    seconds = sum(
        end - start for item in read_speech(run_dir / "silence") for start, end in item.spans
    )
    matching = read_record(run_dir / "matching")
    expected = None if matching is None else matching.counts.get("expected_phone_rate_hz")
    if not isinstance(expected, (int, float)):
        expected = None
    return [speech_checks.check_phone_rate(phones / seconds, expected)] if seconds else []


def _reasons(folder: Path) -> dict[str, int]:
    """Count a stage's rejected items by reason: as its record says, else by its list.

    The record comes first, because lists of very many items are cut.
    """
    record = read_record(folder)
    counted = record.counts.get("rejected") if record is not None else None
    if isinstance(counted, dict):
        return {str(reason): int(number) for reason, number in counted.items()}
    path = folder / "rejected.jsonl"
    try:
        return dict(Counter(str(row["reason"]) for row in read_jsonl(path)))
    except FileNotFoundError:
        return {}  # a stage that can reject nothing writes no list
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged; run the stage again") from error
