"""espeak-ng in a process of its own: it keeps its state in globals, and at times it crashes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from wav2vec_u.synthesis.voice import EspeakVoice, Speech


def say(voice: str, texts: Sequence[str], words_per_minute: int = 160) -> list[Speech]:
    """Let one voice say texts, one after the other, in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_say, voice, list(texts), words_per_minute).result()


def take_on(voices: Sequence[str]) -> None:
    """Change from one voice to the next in a fresh process; raise what that raises."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(_take_on, list(voices)).result()


def _say(voice: str, texts: list[str], words_per_minute: int) -> list[Speech]:
    speaker = EspeakVoice(voice, words_per_minute)
    return [speaker.speak(text) for text in texts]


def _take_on(voices: list[str]) -> None:
    speaker = EspeakVoice("de")
    for voice in voices:
        speaker.change(voice)
