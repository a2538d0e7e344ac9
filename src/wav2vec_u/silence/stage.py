"""The silence stage: utterances of speech from recordings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wav2vec_u.config import SilenceConfig
from wav2vec_u.corpus.audio import AudioError
from wav2vec_u.corpus.manifest import Recording, read_recordings
from wav2vec_u.corpus.rejections import (
    Rejection,
    count_by_reason,
    summary,
    write_rejections,
)
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.progress import progress
from wav2vec_u.silence.spans import Span, speech_seconds, split_spans
from wav2vec_u.silence.speech import Utterance, write_speech
from wav2vec_u.silence.vad import find_speech, load_vad


def run(work: Work, config: SilenceConfig, corpus: Path) -> None:
    """Find the speech of every recording and cut long recordings into utterances.

    Parameters
    ----------
    work : Work
        Gets ``speech.jsonl`` and ``rejected.jsonl``, and the counts ``utterances``, ``hours``
        (speech), ``speech_share`` (of the recordings' duration), ``recordings_split`` and
        ``rejected`` (number by reason).
    config : SilenceConfig
        Detector and lengths.
    corpus : Path
        Artefact of the corpus stage.

    Raises
    ------
    UserError
        If no recording holds speech.
    """
    recordings = read_recordings(corpus)
    vad = load_vad(config)
    rejections: list[Rejection] = []
    found = was_split = 0
    speech = duration = 0.0

    def utterances() -> Iterator[Utterance]:
        nonlocal found, was_split, speech, duration
        for recording in progress(recordings, label="finding speech", total=len(recordings)):
            try:
                spans = find_speech(recording.audio, vad, config)
            except AudioError as error:
                # The file was whole in the corpus stage, and has been changed or taken away since.
                rejections.append(Rejection(recording.id, error.reason, error.detail))
                continue
            duration += recording.seconds
            if not spans:
                detail = f"no speech found in {recording.seconds:.2f} s"
                rejections.append(Rejection(recording.id, "no_speech", detail))
                continue
            pieces = split_spans(
                spans, config.max_utterance_seconds, count_pauses=config.mode == "mask"
            )
            found += len(pieces)
            was_split += len(pieces) > 1
            speech += speech_seconds(spans)
            yield from _as_utterances(recording, pieces)

    write_speech(work.folder, utterances())
    write_rejections(work.folder, rejections)
    work.counts.update(
        utterances=found,
        hours=speech / 3600,
        speech_share=speech / duration if duration else 0.0,
        recordings_split=was_split,
        rejected=count_by_reason(rejections),
    )
    if not found:
        raise UserError(
            f"{corpus}: no speech in any of {len(recordings)} recordings ({summary(rejections)}); "
            "listen to one, or set silence.method to silero or none"
        )


def _as_utterances(recording: Recording, pieces: list[list[Span]]) -> Iterator[Utterance]:
    for number, spans in enumerate(pieces, start=1):
        yield Utterance(
            id=f"{recording.id}#{number:03d}" if len(pieces) > 1 else recording.id,
            recording=recording.id,
            audio=recording.audio,
            split=recording.split,
            speaker=recording.speaker,
            start_s=spans[0][0],
            end_s=spans[-1][1],
            spans=tuple(spans),
        )
