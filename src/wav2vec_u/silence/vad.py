"""Voice activity detection, in windows, so that memory does not grow with the recording.

rVAD is what the paper uses (section 3.1; Tan, Sarkar and Dehak 2019, *rVAD: an unsupervised
segment-based robust voice activity detection method*), with the settings of the reference code:
windows of 25 ms every 10 ms, ``ftThres`` 0.5, ``vadThres`` 0.4. Silero is a small neural network.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rVADfast import rVADfast

from wav2vec_u.config import SAMPLE_RATE, SilenceConfig
from wav2vec_u.corpus.audio import Samples, iter_audio
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.silence.spans import (
    FRAMES_PER_SECOND,
    Span,
    clean_spans,
    mask_to_spans,
    widen_spans,
)

_FRAME = SAMPLE_RATE // FRAMES_PER_SECOND  # samples
_CONTEXT = SAMPLE_RATE  # samples seen on both sides of a window: rVAD looks 0.6 s around a frame
# rVAD drops segments below a fixed energy (about -56 dBFS), hence all of a quiet recording. Its
# other rules do not depend on the level. Recordings that reach this peak are left as they are.
_QUIET_PEAK = 0.1
# rVADfast fails on clips of less than three of its frames (35 ms); no speech is that short anyway.
_SHORTEST = 5 * _FRAME

Mask = NDArray[np.bool_]


class Vad(Protocol):
    """A voice activity detector that decides for every 10 ms."""

    def decide(self, samples: Samples) -> Mask:
        """Tell speech from silence.

        Parameters
        ----------
        samples : ndarray of float32, shape (n,)
            Mono at 16 kHz.

        Returns
        -------
        ndarray of bool, shape (ceil(n / 160),)
        """
        ...


class Rvad:
    """rVAD in its fast variant (spectral flatness in the place of pitch).

    Parameters
    ----------
    threshold : float
        ``vadThres``: share of the mean energy difference of a voiced segment.
    """

    def __init__(self, threshold: float) -> None:
        self._rvad = rVADfast(vad_threshold=threshold)

    def decide(self, samples: Samples) -> Mask:
        """Tell speech from silence; see `Vad`."""
        mask = np.zeros(_frame_count(samples), dtype=np.bool_)
        if len(samples) < _SHORTEST or not samples.any():
            return mask
        with warnings.catch_warnings():
            # Digital silence inside a recording makes all-NaN segments, which rVAD takes as silent.
            warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
            labels = np.asarray(self._rvad(samples, SAMPLE_RATE)[0], dtype=np.bool_)
        count = min(len(labels), len(mask))
        mask[:count] = labels[:count]
        mask[count:] = labels[-1]  # as in the reference: an open span goes on to the last sample
        return mask


class Silero:
    """Silero VAD (MIT), a small recurrent network whose weights come with its package.

    Parameters
    ----------
    threshold : float
        Probability of speech above which a span begins.

    Raises
    ------
    UserError
        If the package is not installed.
    """

    def __init__(self, threshold: float) -> None:
        threads = torch.get_num_threads()
        try:
            from silero_vad import get_speech_timestamps, load_silero_vad
        except ImportError as error:
            raise UserError(
                "silence.method: silero is not installed; pip install 'wav2vec-u[silero]'"
            ) from error
        finally:
            torch.set_num_threads(threads)  # importing silero_vad sets it to 1 for the process
        self._model = load_silero_vad()
        self._timestamps = get_speech_timestamps
        self._threshold = threshold

    def decide(self, samples: Samples) -> Mask:
        """Tell speech from silence; see `Vad`."""
        mask = np.zeros(_frame_count(samples), dtype=np.bool_)
        if not len(samples):
            return mask
        with torch.inference_mode():
            found = self._timestamps(
                torch.from_numpy(np.ascontiguousarray(samples)),
                self._model,
                threshold=self._threshold,
                sampling_rate=SAMPLE_RATE,
            )
        for span in found:
            mask[int(span["start"]) // _FRAME : -(-int(span["end"]) // _FRAME)] = True
        return mask


def load_vad(config: SilenceConfig) -> Vad | None:
    """Make the detector that the settings name; None where everything counts as speech."""
    if config.method == "rvad":
        return Rvad(config.threshold)
    if config.method == "silero":
        return Silero(config.threshold)
    return None


def find_speech(path: str | Path, vad: Vad | None, config: SilenceConfig) -> list[Span]:
    """Find the speech of a recording of any length, holding one window of it in memory.

    Returns
    -------
    list of Span
        Sorted, with short pauses closed, short bursts dropped and margins kept as the settings
        say; empty if there is no speech.

    Raises
    ------
    AudioError
        If the recording cannot be decoded.
    """
    if vad is None:
        count = sum(len(window) for window in iter_audio(path, config.window_seconds))
        return [(0.0, count / SAMPLE_RATE)] if count else []
    mask, seconds = speech_mask(path, vad, config.window_seconds)
    spans = clean_spans(
        mask_to_spans(mask, seconds), config.merge_gap_seconds, config.min_speech_seconds
    )
    return widen_spans(spans, config.margin_seconds, seconds)


def speech_mask(path: str | Path, vad: Vad, window_s: float) -> tuple[Mask, float]:
    """Decide for every 10 ms of a recording.

    Returns
    -------
    mask : ndarray of bool, shape (T,)
    seconds : float
        Duration of the recording as decoded.
    """
    window_s = round(window_s * FRAMES_PER_SECOND) / FRAMES_PER_SECOND  # frames fit in windows
    gain, windows = _levelled(path, window_s)
    decisions: list[Mask] = []
    count = 0
    for samples, begin, end in _with_context(windows):
        mask = vad.decide(samples * gain if gain != 1.0 else samples)
        decisions.append(mask[begin // _FRAME : -(-end // _FRAME)])
        count += end - begin
    if not decisions:
        return np.zeros(0, dtype=np.bool_), 0.0
    return np.concatenate(decisions), count / SAMPLE_RATE


def _levelled(path: str | Path, window_s: float) -> tuple[np.float32, Iterator[Samples]]:
    """Gain that makes a quiet recording loud enough for rVAD, and its windows as they are.

    The gain is one number for the whole recording: a window of pauses must not be raised to the
    level of speech. A recording of one window is decoded once, a longer one twice.
    """
    windows = iter_audio(path, window_s)
    head = list(islice(windows, 2))
    peak = max((float(np.abs(window).max()) for window in chain(head, windows)), default=0.0)
    gain = np.float32(max(1.0, _QUIET_PEAK / peak) if peak > 0 else 1.0)
    return gain, iter(head) if len(head) < 2 else iter_audio(path, window_s)


def _with_context(windows: Iterable[Samples]) -> Iterator[tuple[Samples, int, int]]:
    """Give every window a second of its neighbours, and say where in the result it lies."""
    before = np.empty(0, np.float32)
    window = None
    for following in chain(windows, [None]):
        if window is not None:
            after = np.empty(0, np.float32) if following is None else following[:_CONTEXT]
            begin = len(before)
            yield np.concatenate((before, window, after)), begin, begin + len(window)
            before = window[-_CONTEXT:].copy()
        window = following


def _frame_count(samples: Samples) -> int:
    return -(-len(samples) // _FRAME)
