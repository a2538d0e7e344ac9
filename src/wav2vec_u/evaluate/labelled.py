"""Recordings with the transcripts of a TSV: for evaluation, probes and fine-tuning alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wav2vec_u.corpus.audio import AudioError, probe_audio
from wav2vec_u.corpus.manifest import Recording
from wav2vec_u.corpus.references import read_references
from wav2vec_u.corpus.rejections import Rejection
from wav2vec_u.corpus.sources import Source, read_sources

TRAIN_SPLIT = "train"
TEST_SPLIT = "test"


@dataclass(frozen=True)
class LabelledRecordings:
    """Recordings that have a transcript.

    Attributes
    ----------
    recordings : list of Recording
    transcripts : dict of str to str
        By the id of the recording.
    rejected : list of Rejection
        Recordings that cannot be read, lines that say nothing usable.
    without_transcript : int
        Recordings that are passed over.
    """

    recordings: list[Recording]
    transcripts: dict[str, str]
    rejected: list[Rejection]
    without_transcript: int


def read_labelled(references: Path, audio: Path | None = None) -> LabelledRecordings:
    """Read a TSV, or another manifest with transcripts, and find its recordings.

    Parameters
    ----------
    references : Path
        Columns ``path`` (or ``id``) and ``text``, and ``split`` where there are several.
    audio : Path or None
        Folder or manifest of the recordings, found there by path or id; None where the paths of
        `references` lead to them.

    Raises
    ------
    UserError
        If a manifest or folder cannot be read, or there is no transcript.
    """
    labelled, rejected = read_sources(references)
    transcripts = read_references(references)
    by_path: dict[str, Source] = {}
    by_id: dict[str, Source] = {}
    if audio is not None:
        found, refused = read_sources(audio)
        rejected += refused
        by_path = {str(source.audio): source for source in found}
        by_id = {source.id: source for source in found}
    recordings = []
    without_transcript = 0
    for source in labelled:
        if source.id not in transcripts:
            without_transcript += 1
            continue
        place = source
        if audio is not None:
            match = by_path.get(str(source.audio)) or by_id.get(source.id)
            if match is None:
                detail = f"{audio} holds no such recording"
                rejected.append(Rejection(source.id, "missing", detail))
                continue
            place = match
        try:
            seconds = probe_audio(place.audio).seconds
        except AudioError as error:
            rejected.append(Rejection(source.id, error.reason, error.detail))
            continue
        recordings.append(
            Recording(
                id=source.id,
                audio=str(place.audio),
                seconds=seconds,
                split=source.split or place.split or TRAIN_SPLIT,
                speaker=source.speaker or place.speaker,
            )
        )
    return LabelledRecordings(recordings, transcripts, rejected, without_transcript)
