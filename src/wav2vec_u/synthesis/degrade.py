"""Synthetic speech as a room, a microphone and a throat would change it.

A synthesiser says every phone the same way, in silence. A network that learns from it learns its
tricks and not the phones, unless no two utterances share a spectrum. What is drawn here changes the
length of the vocal tract, the colour of the channel, the room and the noise; all of it leaves the
phones and their order as they are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr
from scipy.signal import fftconvolve

from wav2vec_u.config import SAMPLE_RATE

WARP = 0.16  # natural logarithm: frequencies and durations are stretched by up to 17 %
COLOUR_KNOTS = 8
COLOUR_DB = 5.0  # standard deviation of the channel at a knot
TILT_DB = (-12.0, 6.0)  # from 0 to 8 kHz
ROOM_PROBABILITY = 0.5
REVERBERATION_S = (0.1, 0.5)  # until the echo has fallen by 60 dB
ECHO = (0.06, 0.45)  # its energy, as a root, relative to the direct sound
SNR_DB = (10.0, 45.0)
NOISE_SLOPE = (0.0, 0.8)  # 0: white; falls with frequency to this power
PEAK = 0.9
_KNEE = 50.0  # bin above which the noise falls
_SIXTY_DB = 6.9  # natural logarithm of 1,000

Waveform = npt.NDArray[np.float32]


def warp(
    samples: npt.NDArray[np.int16], sample_rate: int, rng: np.random.Generator
) -> tuple[Waveform, float]:
    """Say it faster and with a shorter vocal tract, or slower and with a longer one.

    Parameters
    ----------
    samples : (n,) int16
    sample_rate : int
    rng : numpy Generator

    Returns
    -------
    waveform : (m,) float32
        At 16 kHz.
    stretch : float
        ``m / n``, by which places in `samples` are to be multiplied.
    """
    factor = float(np.exp(rng.uniform(-WARP, WARP)))
    waveform = soxr.resample(
        samples.astype(np.float32) / 2**15, sample_rate * factor, float(SAMPLE_RATE)
    )
    return waveform, len(waveform) / max(len(samples), 1)


def degrade(waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Pass an utterance through a channel and a room, and add noise: (m,) to (m,) int16."""
    changed = _colour(waveform, rng)
    if rng.random() < ROOM_PROBABILITY:
        changed = _reverberate(changed, rng)
    changed = changed + _noise(changed, rng)
    peak = max(float(np.abs(changed).max(initial=0.0)), 1e-9)
    return np.round(changed * (PEAK / peak * (2**15 - 1))).astype(np.int16)


def _colour(waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    spectrum = np.fft.rfft(waveform)
    place = np.linspace(0, 1, len(spectrum))
    knots = np.linspace(0, 1, COLOUR_KNOTS) ** 2  # closer where the ear is finer
    gain_db = np.interp(place, knots, rng.normal(0, COLOUR_DB, COLOUR_KNOTS))
    gain_db += rng.uniform(*TILT_DB) * place
    coloured: npt.NDArray[np.float64] = np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(waveform))
    return coloured


def _reverberate(
    waveform: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    length = int(rng.uniform(*REVERBERATION_S) * SAMPLE_RATE)
    echo = rng.standard_normal(length) * np.exp(-_SIXTY_DB * np.arange(length) / length)
    echo *= rng.uniform(*ECHO) / np.sqrt(np.square(echo).sum())
    echo[0] = 1.0  # the direct sound
    heard: npt.NDArray[np.float64] = fftconvolve(waveform, echo)[: len(waveform)]
    return heard


def _noise(waveform: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    spectrum = np.fft.rfft(rng.standard_normal(len(waveform)))
    spectrum /= (1 + np.arange(len(spectrum)) / _KNEE) ** rng.uniform(*NOISE_SLOPE)
    noise = np.fft.irfft(spectrum, len(waveform))
    level = np.sqrt(np.square(waveform).mean()) * 10 ** (-rng.uniform(*SNR_DB) / 20)
    scaled: npt.NDArray[np.float64] = noise * (level / max(np.sqrt(np.square(noise).mean()), 1e-12))
    return scaled
