"""The corpus stage: recordings that can be used, and a list of those that cannot."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from wav2vec_u.config import CorpusConfig
from wav2vec_u.corpus.audio import AudioError
from wav2vec_u.corpus.check import check_recording
from wav2vec_u.corpus.manifest import Recording, write_recordings
from wav2vec_u.corpus.rejections import (
    REJECTED_NAME,
    Rejection,
    count_by_reason,
    summary,
    write_rejections,
)
from wav2vec_u.corpus.sources import Source, read_sources
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.progress import progress

_MAX_THREADS = 4  # decoding leaves Python's lock; a disk gains nothing from more readers
_BATCH = 256  # recordings in flight, so that a corpus of millions makes no queue of millions


def run(work: Work, config: CorpusConfig, audio: Path) -> None:
    """Check every recording of a folder or manifest.

    Parameters
    ----------
    work : Work
        Gets ``recordings.jsonl`` and ``rejected.jsonl``, and the counts ``recordings``, ``hours``
        and ``rejected`` (number by reason).
    config : CorpusConfig
        What is too short, what is silent, and the share held out.
    audio : Path
        Folder (searched recursively) or manifest, see `corpus.sources`.

    Raises
    ------
    UserError
        If the input is missing or empty, or no recording can be used.
    """
    sources, rejections = read_sources(audio)
    asked = len(sources) + len(rejections)
    named = any(source.split for source in sources)
    held_out = 0.0 if named else config.held_out_fraction
    accepted = 0
    seconds = 0.0

    def recordings() -> Iterator[Recording]:
        nonlocal accepted, seconds
        checked = _check_all(sources, config)
        for source, result in progress(checked, label="checking recordings", total=len(sources)):
            if isinstance(result, AudioError):
                rejections.append(Rejection(str(source.audio), result.reason, result.detail))
                continue
            accepted += 1
            seconds += result
            yield Recording(
                id=source.id,
                audio=str(source.audio),
                seconds=round(result, 6),
                split=source.split or split_of(source.id, held_out),
                speaker=source.speaker,
            )

    write_recordings(work.folder, recordings())
    write_rejections(work.folder, rejections)
    work.counts.update(
        recordings=accepted, hours=seconds / 3600, rejected=count_by_reason(rejections)
    )
    if not accepted:
        raise UserError(
            f"{audio}: none of its {asked} recordings can be used ({summary(rejections)}); "
            f"{work.folder / REJECTED_NAME} says why for each"
        )


def split_of(recording: str, held_out_fraction: float) -> str:
    """Draw ``test`` or ``train`` from a recording's id alone.

    The draw does not depend on the other recordings: those that are added later move nothing.

    >>> split_of("a", 0.0), split_of("a", 1.0)
    ('train', 'test')
    """
    digest = hashlib.sha256(recording.encode("utf-8")).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
    return "test" if draw < held_out_fraction else "train"


def _check_all(
    sources: Iterable[Source], config: CorpusConfig
) -> Iterator[tuple[Source, float | AudioError]]:
    def check(source: Source) -> float | AudioError:
        try:
            return check_recording(source.audio, config)
        except AudioError as error:
            return error

    remaining = iter(sources)
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        while batch := list(islice(remaining, _BATCH)):
            yield from zip(batch, pool.map(check, batch), strict=True)
