"""A voice for the demo: espeak-ng, through the shared library that a wheel carries.

espeak-ng is GPL-3.0 and is loaded only here and by the espeak back-end of the text stage, when the
user asks for them (extra ``text``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from wav2vec_u.runtime.errors import UserError

# Values of espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_PARAMETER_RATE = 1

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class EspeakVoice:
    """Text to waveform with one espeak-ng voice.

    espeak-ng keeps its state in globals: only the voice made last speaks, and how it says a
    sentence depends a little on what the process has said before. A fresh process that is given the
    same sentences says them to the last bit alike.

    Parameters
    ----------
    voice : str
        espeak-ng voice name, such as ``en-us``.
    words_per_minute : int
        Speaking rate; espeak-ng's own default is 175.

    Attributes
    ----------
    sample_rate : int
        In Hz; espeak-ng speaks at 22,050.
    """

    def __init__(self, voice: str = "en-us", words_per_minute: int = 160) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise UserError(
                "the demo speaks with espeak-ng, which is not installed; "
                "run: pip install 'wav2vec-u[text]'"
            ) from error
        # A library of its own, not the one phonemizer loads: espeak-ng keeps its state in globals.
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.sample_rate = int(
            self._library.espeak_Initialize(
                _OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0
            )
        )
        if self.sample_rate <= 0:
            raise UserError("espeak-ng could not find its voices; reinstall 'wav2vec-u[text]'")
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UserError(f"espeak-ng has no voice named {voice}")
        self._library.espeak_SetParameter(_PARAMETER_RATE, words_per_minute, 0)
        self._pieces: list[np.ndarray] = []
        # Kept on the object: ctypes does not hold a reference to a callback that C still calls.
        self._callback: Callable[..., Any] = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, n_samples: int, _events: Any) -> int:
        if samples and n_samples > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, shape=(n_samples,)).copy())
        return 0

    def speak(self, text: str) -> np.ndarray:
        """Return the waveform of a sentence: (n_samples,) int16 at `sample_rate`."""
        self._pieces = []
        encoded = text.encode("utf-8")
        status = self._library.espeak_Synth(
            encoded, len(encoded) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if status != 0:
            raise UserError(f"espeak-ng could not speak: {text[:60]!r}")
        self._library.espeak_Synchronize()
        if not self._pieces:
            return np.zeros(0, dtype=np.int16)
        return np.concatenate(self._pieces)
