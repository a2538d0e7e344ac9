"""Mel-frequency cepstral coefficients with their first and second differences.

The features of speech recognition before learned encoders, and the ones that need no checkpoint:
Davis and Mermelstein (1980), with the filter bank and differences as in the HTK Book (Young et al.,
sections 5.4, 5.6 and 5.9).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft
import torch

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.features.moments import Moments, standardize

WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
FFT = 512
PREEMPHASIS = 0.97
MEL_FILTERS = 40
LOWEST_HZ = 20.0
LIFTER = 22
DELTA_REACH = 2  # frames to either side of a difference
POWER_FLOOR = 1e-10  # below the quantisation noise of 16-bit audio
BLOCK = 512  # frames worked on at once: their spectra stay in the processor's cache


class MfccEncoder:
    """MFCC frames at 100 Hz.

    Parameters
    ----------
    cepstra : int
        Coefficients of a frame, at most 22.
    deltas : bool
        Append first and second differences; with 13 cepstra, the usual 39 dimensions.
    normalize : bool
        Bring every coefficient to mean 0 and variance 1 over each waveform.

    Attributes
    ----------
    dim : int
        Numbers of a frame.
    """

    name = "mfcc"
    frame_rate_hz = SAMPLE_RATE / HOP

    def __init__(self, cepstra: int = 20, deltas: bool = False, normalize: bool = True) -> None:
        self.cepstra = cepstra
        self.deltas = deltas
        self.normalize = normalize
        self.dim = cepstra * (3 if deltas else 1)
        self.block_names = ["mfcc"]

    def encode(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        """Encode waveforms of (samples,) into frames of (T, D); see `Encoder.encode`."""
        frames = [mfcc(waveform, self.cepstra, self.deltas) for waveform in waveforms]
        if self.normalize:
            frames = [standardize(item, Moments().add(item)) for item in frames]
        return frames

    def encode_blocks(self, waveforms: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Encode waveforms into frames, which count as one block; see `probe.blocks`."""
        return [[frames] for frames in self.encode(waveforms)]


def mfcc(waveform: np.ndarray, cepstra: int = 13, deltas: bool = True) -> np.ndarray:
    """Compute cepstra, and their differences and second differences.

    Parameters
    ----------
    waveform : ndarray of shape (samples,)
        Mono, 16 kHz.
    cepstra : int
        Coefficients kept, the one that measures loudness included.
    deltas : bool
        Append the differences.

    Returns
    -------
    ndarray of shape (T, cepstra) or (T, 3 * cepstra), float32
        Frame `t` covers the samples ``160 t`` to ``160 t + 400``; T is 0 below 400 samples.
    """
    static: np.ndarray = log_mel(waveform) @ _cepstral_transform(cepstra)  # (T, 40) -> (T, cepstra)
    if not deltas:
        return static
    first = delta(static)
    return np.concatenate([static, first, delta(first)], axis=1)


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """Compute the logarithm of the power in 40 mel bands, (T, 40) float32."""
    samples = np.asarray(waveform, dtype=np.float32)
    n_frames = max(0, 1 + (len(samples) - WINDOW) // HOP)
    energies = np.empty((n_frames, MEL_FILTERS), dtype=np.float32)
    if n_frames == 0:
        return energies
    # Pre-emphasis runs over the whole waveform, so that a frame does not depend on where in the
    # recording it lies; the very first sample follows an imagined equal one.
    emphasised = samples - PREEMPHASIS * np.concatenate([samples[:1], samples[:-1]])
    windows = np.lib.stride_tricks.sliding_window_view(emphasised, WINDOW)[::HOP]  # (T, 400)
    taper = np.hamming(WINDOW).astype(np.float32)
    for start in range(0, n_frames, BLOCK):
        block = slice(start, start + BLOCK)
        # torch's FFT: six times as fast as SciPy's on these lengths.
        spectrum = torch.fft.rfft(torch.from_numpy(windows[block] * taper), n=FFT).numpy()
        power = spectrum.real**2 + spectrum.imag**2  # (t, 257)
        energies[block] = power @ _mel_filters()
    return np.log(np.maximum(energies, POWER_FLOOR))


def delta(frames: np.ndarray) -> np.ndarray:
    """Compute the slope of each coefficient by regression over five frames.

    HTK Book, equation 5.16: ``d_t = Σ n (c_{t+n} - c_{t-n}) / (2 Σ n²)``, n = 1, 2, with the first
    and last frame repeated beyond the ends.
    """
    if len(frames) == 0:
        return frames
    reach = DELTA_REACH
    padded = np.pad(frames, ((reach, reach), (0, 0)), mode="edge")
    slope = np.zeros_like(frames)
    for n in range(1, reach + 1):
        ahead = padded[reach + n : reach + n + len(frames)]
        behind = padded[reach - n : reach - n + len(frames)]
        slope += n * (ahead - behind)
    return slope / np.float32(2 * sum(n * n for n in range(1, reach + 1)))


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hertz, dtype=np.float64) / 700.0)


@cache
def _mel_filters() -> np.ndarray:
    # Triangles in mel, each reaching from its lower to its upper neighbour's centre: (257, 40).
    corners = np.linspace(_mel(LOWEST_HZ), _mel(SAMPLE_RATE / 2), MEL_FILTERS + 2)
    bins = _mel(np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE))[:, None]
    lower, centre, upper = corners[:-2], corners[1:-1], corners[2:]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    filters: np.ndarray = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return filters


@cache
def _cepstral_transform(cepstra: int) -> np.ndarray:
    # Orthonormal DCT-II, first rows, with the sinusoidal lifter of HTK folded in: (40, cepstra).
    dct = scipy.fft.dct(np.eye(MEL_FILTERS), type=2, norm="ortho", axis=1)[:, :cepstra]
    lifter = 1.0 + LIFTER / 2 * np.sin(np.pi * np.arange(cepstra) / LIFTER)
    transform: np.ndarray = (dct * lifter).astype(np.float32)
    return transform
