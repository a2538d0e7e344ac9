"""Transcripts, for evaluation alone: no other stage may import this module."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wav2vec_u.corpus.manifest import Recording
from wav2vec_u.corpus.rows import Row, iter_rows
from wav2vec_u.runtime.errors import UserError


def read_references(manifest: Path, recordings: Iterable[Recording] = ()) -> dict[str, str]:
    """Read transcripts from a manifest (JSONL or TSV) or a TSV of path or id, and text.

    Parameters
    ----------
    manifest : Path
        Any format of `corpus.rows` that holds text. Lines without text are passed over; of two
        lines for one recording the first counts, as in the corpus stage.
    recordings : iterable of Recording
        Recordings of the corpus. A line that names one of their files counts for it, even where
        the corpus was read from another place than the manifest and the ids differ.

    Returns
    -------
    dict
        Recording id to transcript.

    Raises
    ------
    UserError
        If the manifest cannot be read or holds no transcript.
    """
    id_of = {recording.audio: recording.id for recording in recordings}
    references: dict[str, str] = {}
    for row in iter_rows(manifest):
        if isinstance(row, Row) and row.text is not None and row.text.strip():
            references.setdefault(id_of.get(str(row.audio), row.id), row.text.strip())
    if not references:
        raise UserError(f"{manifest}: holds no transcripts; add a column or key `text`")
    return references
