"""Every voice says a sentence to the last bit alike in two processes."""

from __future__ import annotations

import hashlib
import importlib.util
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from wav2vec_u.synthesis.cast import VARIANTS
from wav2vec_u.synthesis.voice import EspeakVoice


def say_with_all() -> dict[str, str]:
    """Return a digest of a word as every variant says it."""
    voice = EspeakVoice("de")
    said = {}
    for variant in VARIANTS:
        voice.change(f"de+{variant}")
        said[variant] = hashlib.sha256(voice.speak("Wasser").samples.tobytes()).hexdigest()
    return said


@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeak-ng is not installed: pip install 'wav2vec-u[text]'",
)
def test_every_voice_of_the_cast_says_the_same_in_two_processes() -> None:
    said = []
    for _ in range(2):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            said.append(pool.submit(say_with_all).result())
        time.sleep(1.1)  # what espeak-ng takes for chance is the second
    assert said[0] == said[1]
