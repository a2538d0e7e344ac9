"""The recordings of a corpus: ``recordings.jsonl``, and fairseq's manifest for other programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wav2vec_u.corpus.audio import probe_audio
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_jsonl, write_text

RECORDINGS_NAME = "recordings.jsonl"


@dataclass(frozen=True)
class Recording:
    """One line of ``recordings.jsonl``; it never holds a transcript.

    Attributes
    ----------
    id : str
        Unique: the manifest's id, or the path below the folder or manifest, without suffix.
    audio : str
        Absolute path.
    seconds : float
        Duration of the file.
    split : str
        ``train``, ``test``, ...; ``train`` where the input names none.
    speaker : str or None
        Who speaks, where the input says so.
    """

    id: str
    audio: str
    seconds: float
    split: str
    speaker: str | None


def write_recordings(folder: Path, recordings: Iterable[Recording]) -> None:
    """Write ``recordings.jsonl`` into a folder, without holding all recordings in memory."""
    write_jsonl(folder / RECORDINGS_NAME, (asdict(recording) for recording in recordings))


def read_recordings(folder: Path) -> list[Recording]:
    """Read the recordings that the corpus stage took in.

    Raises
    ------
    UserError
        If the folder holds no readable ``recordings.jsonl``.
    """
    path = folder / RECORDINGS_NAME
    try:
        return [Recording(**values) for values in read_jsonl(path)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read; run the corpus stage first") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged; run the corpus stage again") from error


def write_fairseq_tsv(path: Path, recordings: Sequence[Recording]) -> None:
    """Export recordings as a fairseq manifest: the root folder, then ``path<TAB>samples``.

    The number of samples is that of the file at its own rate, as fairseq counts it.

    Raises
    ------
    UserError
        If there are no recordings, or a path holds a tab or a line break.
    AudioError
        If a recording can no longer be opened.
    """
    if not recordings:
        raise UserError(f"{path}: there are no recordings to export")
    root = Path(os.path.commonpath([Path(recording.audio).parent for recording in recordings]))
    lines = [str(root)]
    for recording in recordings:
        name = Path(recording.audio).relative_to(root).as_posix()
        if {"\t", "\n", "\r"} & set(name):
            raise UserError(f"{recording.audio!r}: fairseq's format has no tabs in paths; rename")
        lines.append(f"{name}\t{probe_audio(recording.audio).frames}")
    write_text(path, "\n".join(lines) + "\n")
