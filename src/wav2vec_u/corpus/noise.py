"""Recordings that are noise from beginning to end, as raw audio is that was read the wrong way.

Samples whose bytes were swapped, or whose width was mistaken, make a file that decodes without an
error, has a duration, is loud, and holds no speech. Whoever learns from it learns nothing, and is
not told why. What gives it away is that even its loudest moments have flat spectra: in speech
those are vowels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.corpus.audio import AudioError

FRAME_SECONDS = 0.025
LOUD_SHARE = 0.25  # of the frames, that count as loud
MOST_LOUD = 400  # frames, 10 s: of an hour with a minute of speech, the loudest are speech
LOUD_ABOVE = 1e-3  # of the loudest frame's power: a word or two may be all that is said
LEAST_FLAT = 0.25  # quantile of the loud frames that is looked at: fricatives are flat too
_FLOOR = 1e-12

_Samples = NDArray[np.float32]


class NoiseMeter:
    """Measures how flat the spectra of the loudest frames are, block by block.

    However long the recording, `MOST_LOUD` frames are remembered.

    Parameters
    ----------
    rate : int
        Samples a second.
    """

    def __init__(self, rate: int) -> None:
        self._frame = max(2, round(FRAME_SECONDS * rate))
        self._window = np.hanning(self._frame).astype(np.float32)
        self._rest: _Samples = np.zeros(0, np.float32)
        self._count = 0
        self._powers: _Samples = np.zeros(0, np.float32)  # of the loudest frames so far
        self._flatness: _Samples = np.zeros(0, np.float32)

    def add(self, samples: _Samples) -> None:
        """Take in the samples that follow, (N,)."""
        samples = np.concatenate([self._rest, samples])
        count = len(samples) // self._frame
        frames = samples[: count * self._frame].reshape(count, self._frame)
        self._rest = samples[count * self._frame :]
        if not count:
            return
        # The mean of a frame is no sound, and neither is the bin at 0 Hz.
        spectra = np.abs(np.fft.rfft(frames * self._window, axis=1))[:, 1:] ** 2 + _FLOOR
        arithmetic = spectra.mean(axis=1)
        geometric = np.exp(np.log(spectra).mean(axis=1))
        self._count += count
        powers = np.concatenate([self._powers, arithmetic])
        flatness = np.concatenate([self._flatness, geometric / arithmetic])
        loudest = np.argsort(powers)[-MOST_LOUD:]
        self._powers, self._flatness = powers[loudest], flatness[loudest]

    def flatness(self) -> float:
        """Return the spectral flatness of the loudest frames, 0 (a tone) to 1; 0 without frames.

        That is the geometric mean of a frame's power spectrum over its arithmetic mean. White noise
        has about 0.5, speech less than 0.04.
        """
        if self._count == 0:
            return 0.0
        count = max(1, round(LOUD_SHARE * self._count))
        powers, flatness = self._powers[-count:], self._flatness[-count:]
        return float(np.quantile(flatness[powers >= LOUD_ABOVE * powers[-1]], LEAST_FLAT))

    def check(self, max_flatness: float) -> None:
        """Refuse what is noise.

        Parameters
        ----------
        max_flatness : float
            `CorpusConfig.max_flatness`.

        Raises
        ------
        AudioError
            ``noise``.
        """
        flatness = self.flatness()
        if flatness > max_flatness:
            raise AudioError(
                "noise",
                f"is noise from beginning to end (flatness {flatness:.2f}, at most {max_flatness} "
                "is asked); was raw audio read in the wrong byte order?",
            )
