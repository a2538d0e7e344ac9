"""Samples from sound files: any format of libsndfile, any rate, decoded as 16 kHz mono float32.

Everything streams: a file of three hours is decoded block by block, resampled with soxr's streaming
resampler and handed out in windows. `read_audio` is the same stream, put together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from wav2vec_u.config import SAMPLE_RATE

_PLAIN = (".wav", ".wave", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph")
_COMPRESSED = (".flac", ".ogg", ".oga", ".opus", ".mp3")
AUDIO_SUFFIXES = frozenset(_PLAIN + _COMPRESSED)
_BLOCK_FRAMES = 65_536  # decoded at a time: 4 s at 16 kHz
# A stretch is decoded from this much earlier, so that what comes before is forgotten where it
# begins: an MP3 decoder is wrong for some frames after a jump (up to 0.2 s measured), soxr's HQ
# filter reaches 12 ms back at 8 kHz and less at higher rates.
_PREROLL_SAMPLES = SAMPLE_RATE // 2
# Jumps into the last page of an Ogg Vorbis file land beside the place (0.2 s measured); it is
# reached by decoding. A page has at most 255 packets of, as usual, 1,024 frames.
_LAST_PAGE_FRAMES = 255 * 1024
# Headers of some MP3 encoders are off by a frame or two; less than this is no truncation.
_TRUNCATION_TOLERANCE_S = 0.1
# Programs that write into a pipe cannot know the length and leave the largest number there.
_UNKNOWN_BYTES = 0x7FFFF000
# libsndfile quietly shortens the promise of the header to what the file holds, and logs it.
_SHORTENED = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")

Samples = NDArray[np.float32]


class AudioError(Exception):
    """A recording that cannot be used.

    Parameters
    ----------
    reason : str
        One word: ``missing``, ``permission``, ``empty``, ``not_audio``, ``truncated``, ``nan``
        (from decoding), ``too_short``, ``silent``, ``noise`` (from `corpus.check`).
    detail : str
        What was found, in words.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class AudioInfo:
    """What a header says: rate in Hz, number of channels, frames (samples of one channel)."""

    rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.rate


def probe_audio(path: str | Path) -> AudioInfo:
    """Read the header alone.

    Raises
    ------
    AudioError
        ``missing``, ``permission``, ``empty``, ``not_audio`` or ``truncated``.
    """
    with _open(Path(path)) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def iter_blocks(path: str | Path) -> Iterator[Samples]:
    """Decode a file at its own rate, mixed down to mono, in blocks of at most 65,536 frames.

    Raises
    ------
    AudioError
        As `probe_audio`; also ``truncated`` if fewer frames decode than the header promises, and
        ``nan`` if a sample is not a finite number.
    """
    with _open(Path(path)) as file:
        yield from _blocks(file, 0)


def iter_audio(
    path: str | Path, window_s: float, start_s: float = 0.0, end_s: float | None = None
) -> Iterator[Samples]:
    """Decode a recording, or a stretch of it, in windows at 16 kHz.

    Parameters
    ----------
    path : str or Path
        Any sound file that libsndfile reads.
    window_s : float
        Length of a window in seconds; the last one may be shorter, none is empty.
    start_s, end_s : float
        Stretch of the recording in seconds; the end is capped at the end of the file. The samples
        are those that lie there when the whole file is read.

    Yields
    ------
    ndarray of float32, shape (round(window_s * 16000),)

    Raises
    ------
    AudioError
        As `iter_blocks`.
    """
    size = max(1, round(window_s * SAMPLE_RATE))
    first = round(start_s * SAMPLE_RATE)
    last = None if end_s is None else round(end_s * SAMPLE_RATE)
    pending: list[Samples] = []
    held = 0
    with _open(Path(path)) as file:
        for block in _resampled(file, first, last):
            pending.append(block)
            held += len(block)
            if held < size:
                continue
            joined = np.concatenate(pending)
            whole = held - held % size
            yield from (joined[begin : begin + size] for begin in range(0, whole, size))
            pending = [joined[whole:].copy()]  # a view would keep the yielded windows alive
            held -= whole
    if held:
        yield np.concatenate(pending)


def read_audio(path: str | Path, start_s: float = 0.0, end_s: float | None = None) -> Samples:
    """Decode a recording, or a stretch of it, at once; see `iter_audio` for long ones.

    Returns
    -------
    ndarray of float32, shape (n,)
        Mono samples at 16 kHz.

    Raises
    ------
    AudioError
        As `iter_blocks`.
    """
    window_s = _BLOCK_FRAMES / SAMPLE_RATE
    windows = list(iter_audio(path, window_s, start_s, end_s))
    return np.concatenate(windows) if windows else np.empty(0, np.float32)


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that is read from one place on.

    After each read of a seekable file soundfile seeks to where it stands already. That disturbs an
    MP3 decoder: some thousand samples after every block came out wrong (at 22.05 and 48 kHz).
    """

    def seekable(self) -> bool:
        return False


@contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        file = _Sequential(path)
    except soundfile.LibsndfileError as error:
        raise _why_not_opened(path, error) from error
    with file:
        if file.frames == 0:
            raise AudioError("empty", "the file holds a header and no samples")
        _refuse_shortened(file)
        yield file


def _why_not_opened(path: Path, error: soundfile.LibsndfileError) -> AudioError:
    # libsndfile says "System error" for whatever the operating system refuses; Python says why.
    try:
        with path.open("rb") as file:
            content = file.read(1)
    except FileNotFoundError:
        return AudioError("missing", "there is no such file")
    except PermissionError:
        return AudioError("permission", "the file may not be read")
    except OSError as system:
        return AudioError("not_audio", system.strerror or str(system))
    if not content:
        return AudioError("empty", "the file has no bytes")
    return AudioError(
        "not_audio", f"{error.error_string.rstrip('.')}; convert the recording to WAV or FLAC"
    )


def _refuse_shortened(file: soundfile.SoundFile) -> None:
    found = _SHORTENED.search(file.extra_info)
    if found is None:
        return
    promised, held = (int(size) for size in found.groups())
    if promised >= _UNKNOWN_BYTES or held == 0:
        return
    _refuse_truncated(file.frames, round(file.frames * promised / held), file.samplerate)


def _refuse_truncated(decoded: int, promised: int, rate: int) -> None:
    if promised - decoded > _TRUNCATION_TOLERANCE_S * rate:
        raise AudioError(
            "truncated",
            f"the header promises {promised / rate:.2f} s, {decoded / rate:.2f} s can be decoded",
        )


def _blocks(file: soundfile.SoundFile, start: int) -> Iterator[Samples]:
    """Decode from frame `start` to the end of the file."""
    if start:
        file.seek(min(start, file.frames))
    position = start
    while True:
        try:
            frames = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)  # (n, channels)
        except soundfile.LibsndfileError:  # FLAC raises where the stream breaks off
            _refuse_truncated(position, file.frames, file.samplerate)
            return
        if len(frames) == 0:
            break
        position += len(frames)
        mono = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1)
        if not np.isfinite(mono).all():
            raise AudioError("nan", f"samples before {position / file.samplerate:.2f} s are NaN")
        yield mono
    _refuse_truncated(position, file.frames, file.samplerate)


def _resampled(file: soundfile.SoundFile, first: int, last: int | None) -> Iterator[Samples]:
    """Samples `first` to `last` (16 kHz) of a file, in blocks of any size."""
    # Start where a frame of the file and a sample at 16 kHz fall together, so that a stretch has
    # the same phase, hence the same samples, as the whole file.
    common = math.gcd(file.samplerate, SAMPLE_RATE)
    samples_per_unit = SAMPLE_RATE // common
    reachable = max(0, file.frames - _LAST_PAGE_FRAMES) * SAMPLE_RATE // file.samplerate
    units = min(max(0, first - _PREROLL_SAMPLES), reachable) // samples_per_unit
    begin = units * samples_per_unit
    blocks = _blocks(file, units * (file.samplerate // common))
    if file.samplerate != SAMPLE_RATE:
        blocks = _resample(blocks, file.samplerate)
    for block in blocks:
        end = begin + len(block)
        stop = end if last is None else min(end, last)
        if stop > max(begin, first):
            yield block[max(0, first - begin) : stop - begin]
        begin = end
        if last is not None and begin >= last:
            return


def _resample(blocks: Iterator[Samples], rate: int) -> Iterator[Samples]:
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)
