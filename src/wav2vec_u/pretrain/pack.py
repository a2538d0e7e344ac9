"""All speech in one flat file of 16-bit samples, so that training never waits for a decoder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.corpus.audio import AudioError
from wav2vec_u.corpus.rejections import Rejection
from wav2vec_u.features.batching import map_ahead
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json
from wav2vec_u.runtime.progress import progress
from wav2vec_u.silence.speech import Utterance, load_waveform

SAMPLES_NAME = "samples.i16"
INDEX_NAME = "index.json"
_FULL_SCALE = 32_767.0


def write_pack(
    folder: Path, utterances: list[Utterance], min_samples: int, workers: int = 2
) -> list[Rejection]:
    """Decode utterances, cut to their speech, behind one another.

    Parameters
    ----------
    folder : Path
        Gets ``samples.i16`` (little-endian, 16 kHz, mono) and ``index.json`` (ids, offsets).
    utterances : list of Utterance
        Decoded in this order.
    min_samples : int
        Shorter utterances are left out.
    workers : int
        Threads that decode.

    Returns
    -------
    list of Rejection
        Utterances left out: ``too_short``, or why they could not be decoded.
    """
    rejected: list[Rejection] = []
    ids: list[str] = []

    def kept() -> Iterator[npt.NDArray[np.int16]]:
        decoded = map_ahead(_decode, utterances, workers)
        for utterance, samples in progress(decoded, label="packing", total=len(utterances)):
            if isinstance(samples, AudioError):
                rejected.append(Rejection(utterance.id, samples.reason, samples.detail))
            elif len(samples) < min_samples:
                detail = f"{len(samples) / SAMPLE_RATE:.3f} s of speech"
                rejected.append(Rejection(utterance.id, "too_short", detail))
            else:
                ids.append(utterance.id)
                yield samples

    write_samples(folder, kept(), ids)
    return rejected


def write_samples(folder: Path, waveforms: Iterable[npt.NDArray[np.int16]], ids: list[str]) -> int:
    """Write waveforms behind one another; return how many samples they have.

    Parameters
    ----------
    folder : Path
        Gets ``samples.i16`` (little-endian, 16 kHz, mono) and ``index.json`` (ids, offsets).
    waveforms : iterable of (n,) int16 arrays
        Taken one at a time.
    ids : list of str
        Of the waveforms; read when the last of them was taken.
    """
    offsets = [0]
    with (folder / SAMPLES_NAME).open("wb") as file:
        for samples in waveforms:
            file.write(samples.astype("<i2", copy=False).tobytes())
            offsets.append(offsets[-1] + len(samples))
    write_json(folder / INDEX_NAME, {"ids": ids, "offsets": offsets})
    return offsets[-1]


class AudioPack:
    """Reads what `write_pack` wrote; samples stay on disk until they are asked for.

    Attributes
    ----------
    ids : list of str
    lengths : ndarray of shape (N,), int64
        Samples of each utterance.

    Raises
    ------
    UserError
        If a file is missing or cut short.
    """

    def __init__(self, folder: Path) -> None:
        try:
            index = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
            self.ids: list[str] = index["ids"]
            self._offsets = np.asarray(index["offsets"], dtype=np.int64)  # (N + 1,)
            self._samples = np.memmap(folder / SAMPLES_NAME, dtype="<i2", mode="r")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder}: is no readable audio pack; remove it and run again") from (
                error
            )
        if len(self.ids) + 1 != len(self._offsets) or len(self._samples) != self._offsets[-1]:
            raise UserError(f"{folder}: the audio pack is cut short; remove it and run again")
        self.lengths = np.diff(self._offsets)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def hours(self) -> float:
        """Speech in the pack."""
        return float(self._offsets[-1]) / SAMPLE_RATE / 3600

    def samples(
        self, index: int, start: int = 0, stop: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Return samples of one utterance in [-1, 1], (stop - start,) float32."""
        first, last = int(self._offsets[index]), int(self._offsets[index + 1])
        if stop is not None:
            last = min(last, first + stop)
        return self._samples[first + start : last].astype(np.float32) / np.float32(_FULL_SCALE)


def _decode(utterance: Utterance) -> npt.NDArray[np.int16] | AudioError:
    try:
        samples, _ = load_waveform(utterance, "cut")
    except AudioError as error:
        return error
    return np.round(samples.clip(-1, 1) * _FULL_SCALE).astype("<i2")
