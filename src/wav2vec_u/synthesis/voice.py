"""espeak-ng as a voice: text to waveform, and the phones in it with their times.

espeak-ng is GPL-3.0. It is loaded only here and by the espeak back-end of the text stage, through
the shared library that a wheel carries, when the user asks for it (extra ``text``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wav2vec_u.runtime.errors import UserError

# Values of espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_PHONEME_EVENTS_IN_IPA = 1 | 2
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_PARAMETER_RATE = 1
_PARAMETER_PITCH = 3
_PARAMETER_PITCH_RANGE = 4
_EVENT_LIST_ENDS = 0
_EVENT_PHONEME = 7
_NOISE_SEED = 1
_PALATALISED = "ʲ"
_LANGUAGE_SWITCH = "("  # `(en)`: what follows is read as English; lasts no time
_STRESS_MARKS = str.maketrans("", "", "ˈˌ")


class _EventContent(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventContent),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Manner:
    """How a sentence is said.

    Attributes
    ----------
    words_per_minute : int
        espeak-ng's own default is 175.
    pitch, pitch_range : int
        0 to 100; espeak-ng's own default is 50.
    """

    words_per_minute: int = 175
    pitch: int = 50
    pitch_range: int = 50


@dataclass(frozen=True)
class PhoneStart:
    """A phone and the sample it begins at; the phone is empty in a pause."""

    sample: int
    phone: str


@dataclass(frozen=True)
class Speech:
    """What a voice said.

    Attributes
    ----------
    samples : (n,) int16
        At `EspeakVoice.sample_rate`.
    phones : list of PhoneStart
        In order. Phones are written as the text stage writes them: no stress, length marks kept.
    """

    samples: npt.NDArray[np.int16]
    phones: list[PhoneStart]


class EspeakVoice:
    """Text to waveform with espeak-ng.

    espeak-ng keeps its state in globals: only the voice made last speaks, and how it says a
    sentence depends a little on what the process has said before. A fresh process that is given the
    same sentences says them to the last bit alike.

    Parameters
    ----------
    voice : str
        espeak-ng voice name, such as ``en-us``, or with one of its variants, ``de+f2``.
    words_per_minute : int
        Speaking rate of `speak` where no manner is given.

    Attributes
    ----------
    sample_rate : int
        In Hz; espeak-ng speaks at 22,050.

    Raises
    ------
    UserError
        If espeak-ng is not installed or has no such voice.
    """

    def __init__(self, voice: str = "en-us", words_per_minute: int = 160) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise UserError(
                "speaking needs espeak-ng, which is not installed; "
                "run: pip install 'wav2vec-u[text]'"
            ) from error
        # A library of its own, not the one phonemizer loads: espeak-ng keeps its state in globals.
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.sample_rate = int(
            self._library.espeak_Initialize(
                _OUTPUT_SYNCHRONOUS,
                0,
                espeakng_loader.get_data_path().encode(),
                _PHONEME_EVENTS_IN_IPA,
            )
        )
        if self.sample_rate <= 0:
            raise UserError("espeak-ng could not find its voices; reinstall 'wav2vec-u[text]'")
        self._manner = Manner(words_per_minute)
        self._pieces: list[npt.NDArray[np.int16]] = []
        self._phones: list[PhoneStart] = []
        # Kept on the object: ctypes does not hold a reference to a callback that C still calls.
        self._callback: Callable[..., Any] = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        self.change(voice)

    def change(self, voice: str) -> None:
        """Go on with another voice.

        Raises
        ------
        UserError
            If espeak-ng has no such voice.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UserError(f"espeak-ng has no voice named {voice}")

    def speak(self, text: str, manner: Manner | None = None) -> Speech:
        """Say a sentence.

        Raises
        ------
        UserError
            If espeak-ng refuses.
        """
        manner = manner or self._manner
        for parameter, value in (
            (_PARAMETER_RATE, manner.words_per_minute),
            (_PARAMETER_PITCH, manner.pitch),
            (_PARAMETER_PITCH_RANGE, manner.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        # The breath of some voices is noise, which it would otherwise draw from the clock.
        self._library.espeak_ng_SetRandSeed(_NOISE_SEED)
        self._pieces, self._phones = [], []
        encoded = text.encode("utf-8")
        status = self._library.espeak_Synth(
            encoded, len(encoded) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if status != 0:
            raise UserError(f"espeak-ng could not speak: {text[:60]!r}")
        self._library.espeak_Synchronize()
        if not self._pieces:
            return Speech(np.zeros(0, dtype=np.int16), [])
        return Speech(np.concatenate(self._pieces), self._phones)

    def _receive(self, samples: Any, n_samples: int, events: Any) -> int:
        if samples and n_samples > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, shape=(n_samples,)).copy())
        place = 0
        while events[place].type != _EVENT_LIST_ENDS:
            event = events[place]
            if event.type == _EVENT_PHONEME:
                phone = event.id.string.decode("utf-8", "replace").translate(_STRESS_MARKS)
                if phone == _PALATALISED and self._phones:
                    # A phone of its own here, and part of the one before it in the text.
                    before = self._phones[-1]
                    self._phones[-1] = replace(before, phone=before.phone + phone)
                elif not phone.startswith(_LANGUAGE_SWITCH):
                    self._phones.append(PhoneStart(event.sample, phone))
            place += 1
        return 0
