"""Utterances: stretches of speech, each short enough for an encoder, and their waveforms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.corpus.audio import Samples, iter_audio, read_audio
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_jsonl
from wav2vec_u.silence.spans import Span, SpanMap, sample_bounds

SPEECH_NAME = "speech.jsonl"
_WINDOW_S = 30.0  # decoded at a time; pauses of an utterance are never held longer


@dataclass(frozen=True)
class Utterance:
    """One line of ``speech.jsonl``.

    Attributes
    ----------
    id : str
        Id of the recording, with ``#001``, ``#002``, ... behind it where the recording was split.
    recording, audio, split, speaker
        As in `corpus.manifest.Recording`, whose id is `recording`.
    start_s, end_s : float
        Stretch of the original recording, from the first speech to the last.
    spans : tuple of Span
        Speech inside the stretch, seconds of the original recording.
    """

    id: str
    recording: str
    audio: str
    split: str
    speaker: str | None
    start_s: float
    end_s: float
    spans: tuple[Span, ...]


def write_speech(folder: Path, utterances: Iterable[Utterance]) -> None:
    """Write ``speech.jsonl`` into a folder, without holding all utterances in memory."""
    write_jsonl(folder / SPEECH_NAME, (asdict(utterance) for utterance in utterances))


def read_speech(folder: Path) -> list[Utterance]:
    """Read the utterances that the silence stage found.

    Raises
    ------
    UserError
        If the folder holds no readable ``speech.jsonl``.
    """
    path = folder / SPEECH_NAME
    try:
        return [
            Utterance(**{**values, "spans": tuple((start, end) for start, end in values["spans"])})
            for values in read_jsonl(path)
        ]
    except OSError as error:
        raise UserError(f"{path}: cannot be read; run the silence stage first") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: is damaged; run the silence stage again") from error


def load_waveform(utterance: Utterance, mode: Literal["cut", "mask"]) -> tuple[Samples, SpanMap]:
    """Decode an utterance.

    Parameters
    ----------
    utterance : Utterance
        What to decode.
    mode : {"cut", "mask"}
        ``cut`` puts the spans of speech one behind the other, as the reference does; ``mask``
        keeps the stretch from `start_s` to `end_s` whole, and the frames of its pauses are to be
        dropped after encoding (`silence.spans.frame_is_speech`).

    Returns
    -------
    samples : ndarray of float32, shape (n,)
        Mono at 16 kHz.
    times : SpanMap
        Maps seconds in `samples` to seconds in the original recording.

    Raises
    ------
    AudioError
        If the recording cannot be decoded.
    """
    if mode == "mask":
        stretch = (utterance.start_s, utterance.end_s)
        return read_audio(utterance.audio, *stretch), SpanMap([stretch])
    bounds = sample_bounds(utterance.spans)  # (S, 2)
    first, last = int(bounds[0, 0]), int(bounds[-1, 1])
    kept: list[Samples] = []
    position = first
    windows = iter_audio(utterance.audio, _WINDOW_S, first / SAMPLE_RATE, last / SAMPLE_RATE)
    for window in windows:
        end = position + len(window)
        for begin, stop in np.clip(bounds, position, end) - position:
            if stop > begin:
                kept.append(window[begin:stop].copy())  # a view would keep the pauses in memory
        position = end
    samples = np.concatenate(kept) if kept else np.empty(0, np.float32)
    return samples, SpanMap(utterance.spans)
