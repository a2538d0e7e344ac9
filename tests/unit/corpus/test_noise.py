"""Recordings that are noise from beginning to end, told from everything that is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from wav2vec_u.config import CorpusConfig
from wav2vec_u.corpus.audio import AudioError
from wav2vec_u.corpus.check import check_recording
from wav2vec_u.corpus.noise import MOST_LOUD, NoiseMeter

RATE = 16_000
CORPORA = Path(__file__).parents[4] / "shared" / "corpora"

_Samples = NDArray[np.float32]


def vowels(seconds: float, seed: int = 0, rate: int = RATE) -> _Samples:
    """A buzz of changing pitch through a resonance, as loud as quiet speech, and faint noise."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(110 + 30 * np.sin(2 * np.pi * 1.3 * times)) / rate
    buzz = sum(np.sin(k * phase) / (1 + ((110 * k - 600) / 300) ** 2) for k in range(1, 25))
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * times)
    samples = 0.03 * loudness * buzz + 0.001 * rng.standard_normal(len(times))
    return samples.astype(np.float32)


def noise(seconds: float, seed: int = 0) -> _Samples:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def flatness(samples: _Samples, rate: int = RATE, block: int = 5_000) -> float:
    meter = NoiseMeter(rate)
    for first in range(0, len(samples), block):
        meter.add(samples[first : first + block])
    return meter.flatness()


def swapped(samples: _Samples) -> _Samples:
    """What 16-bit samples are that were read in the wrong byte order."""
    whole = np.round(samples * 32_767).astype("<i2")
    return (whole.byteswap().astype(np.float32) / 32_768).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.4, 3.0, 60.0])
def test_noise_is_flat_and_a_voice_is_not(seconds: float) -> None:
    assert flatness(noise(seconds)) > 0.4
    assert flatness(vowels(seconds)) < 0.02
    assert flatness(swapped(vowels(seconds))) > 0.2


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_at_any_rate(rate: int) -> None:
    assert flatness(vowels(2.0, rate=rate), rate) < 0.02


@pytest.mark.parametrize("block", [1, 7, 399, 400, 401, 65_536])
def test_blocks_do_not_matter(block: int) -> None:
    samples = np.concatenate([noise(0.05), vowels(0.1)])
    assert flatness(samples, block=block) == pytest.approx(flatness(samples), rel=1e-5)


@pytest.mark.parametrize("floor", [0.0, 1e-3, 1e-2])
@pytest.mark.parametrize("seconds", [3.0, 10.0, 70.0])
def test_a_word_between_long_pauses_is_speech(seconds: float, floor: float) -> None:
    """As in recordings of word lists; the pauses may be muted, or hiss."""
    samples = np.float32(floor) * noise(seconds)
    samples[RATE : RATE + RATE // 2] += np.float32(5) * vowels(0.5)
    assert flatness(samples) < 0.1
    assert flatness(noise(seconds)) > 0.4


def test_a_minute_of_speech_in_an_hour_of_hiss_is_speech() -> None:
    hiss = np.float32(0.05) * noise(600.0)
    hiss[RATE * 300 : RATE * 310] += np.float32(3) * vowels(10.0)
    assert flatness(hiss) < 0.1


def test_the_memory_does_not_grow_with_the_recording() -> None:
    meter = NoiseMeter(RATE)
    for seed in range(20):
        meter.add(vowels(5.0, seed))
    assert len(meter._powers) == len(meter._flatness) == MOST_LOUD


def test_nothing_to_measure_is_not_noise() -> None:
    assert NoiseMeter(RATE).flatness() == 0.0
    assert flatness(np.zeros(100, np.float32)) == 0.0


def test_a_recording_that_is_noise_is_told_from_one_that_is_not(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    soundfile.write(good, vowels(1.0), RATE)
    soundfile.write(bad, swapped(vowels(1.0)), RATE)
    assert check_recording(good, CorpusConfig()) == 1.0
    with pytest.raises(AudioError, match="wrong byte order") as caught:
        check_recording(bad, CorpusConfig())
    assert caught.value.reason == "noise"
    assert check_recording(bad, CorpusConfig(max_flatness=1.0)) == 1.0


@pytest.mark.corpora
@pytest.mark.skipif(not CORPORA.is_dir(), reason="no real recordings beside the checkout")
@pytest.mark.parametrize(
    ("corpus", "expected"),
    [("an4_en", "noise"), ("rhasspy_kerstin_de", None), ("librispeech_resemblyzer_en", None)],
)
def test_real_corpora(corpus: str, expected: str | None) -> None:
    reasons = []
    for path in sorted((CORPORA / corpus / "audio").iterdir())[30:60]:
        try:
            check_recording(path, CorpusConfig())
            reasons.append(None)
        except AudioError as error:
            reasons.append(error.reason)
    assert reasons.count(expected) >= 0.9 * len(reasons)
    assert expected is not None or reasons.count("noise") == 0
