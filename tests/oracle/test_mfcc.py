"""The MFCC against a slow one written from the textbook, and against planted tones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.config import FeaturesConfig
from wav2vec_u.features.encoder import load_encoder
from wav2vec_u.features.mfcc import HOP, MEL_FILTERS, MfccEncoder, delta, log_mel, mfcc

RATE = 16_000


def mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def inverse_mel(value: float) -> float:
    return 700 * (10 ** (value / 2595) - 1)


def slow_cepstra(waveform: np.ndarray, count: int) -> np.ndarray:
    """Davis and Mermelstein's recipe, one frame, filter and coefficient at a time."""
    x = waveform.astype(np.float64)
    emphasised = [x[0] - 0.97 * x[0]] + [x[i] - 0.97 * x[i - 1] for i in range(1, len(x))]
    hamming = [0.54 - 0.46 * math.cos(2 * math.pi * i / 399) for i in range(400)]
    low, high = mel(20), mel(8000)
    corners = [low + (high - low) * i / 41 for i in range(42)]
    rows = []
    for start in range(0, len(x) - 400 + 1, 160):
        frame = np.array([emphasised[start + i] * hamming[i] for i in range(400)])
        n = np.arange(400)
        power = [abs(np.sum(frame * np.exp(-2j * np.pi * k * n / 512))) ** 2 for k in range(257)]
        logs = []
        for band in range(40):
            left, centre, right = corners[band : band + 3]
            energy = 0.0
            for k in range(257):
                position = mel(k * RATE / 512)
                if left < position <= centre:
                    energy += power[k] * (position - left) / (centre - left)
                elif centre < position < right:
                    energy += power[k] * (right - position) / (right - centre)
            logs.append(math.log(max(energy, 1e-10)))
        cepstra = []
        for c in range(count):
            total = sum(logs[b] * math.cos(math.pi * c * (b + 0.5) / 40) for b in range(40))
            scale = math.sqrt((1 if c == 0 else 2) / 40)
            lifter = 1 + 11 * math.sin(math.pi * c / 22)
            cepstra.append(total * scale * lifter)
        rows.append(cepstra)
    return np.array(rows)


def slow_delta(frames: np.ndarray) -> np.ndarray:
    last = len(frames) - 1
    return np.array(
        [
            sum(n * (frames[min(t + n, last)] - frames[max(t - n, 0)]) for n in (1, 2)) / 10
            for t in range(len(frames))
        ]
    )


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    rng = np.random.default_rng(3)
    return (0.1 * rng.standard_normal(3_000)).astype(np.float32)


@pytest.mark.parametrize("count", [13, 20, 22])
def test_cepstra_and_differences_equal_the_textbook(noise: np.ndarray, count: int) -> None:
    cepstra = slow_cepstra(noise, count)
    assert cepstra.shape == (17, count)
    np.testing.assert_allclose(mfcc(noise, count, deltas=False), cepstra, rtol=1e-3, atol=2e-3)
    first = slow_delta(cepstra)
    expected = np.concatenate([cepstra, first, slow_delta(first)], axis=1)
    np.testing.assert_allclose(mfcc(noise, count, deltas=True), expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("cepstra", "deltas", "dim"), [(20, False, 20), (13, True, 39), (22, True, 66), (1, False, 1)]
)
def test_the_encoder_gives_what_it_is_asked_for(
    noise: np.ndarray, cepstra: int, deltas: bool, dim: int
) -> None:
    encoder = MfccEncoder(cepstra, deltas, normalize=False)
    assert encoder.dim == dim
    (frames,) = encoder.encode([noise])
    assert frames.shape == (17, dim)
    np.testing.assert_array_equal(frames, mfcc(noise, cepstra, deltas))


def test_settings_reach_the_encoder() -> None:
    encoder = load_encoder(FeaturesConfig(encoder="mfcc", mfcc_cepstra=13, mfcc_deltas=True))
    assert encoder.dim == 39
    assert load_encoder(FeaturesConfig(encoder="mfcc")).dim == 20


def test_normalised_frames_have_mean_zero_and_variance_one(noise: np.ndarray) -> None:
    (frames,) = MfccEncoder(13, deltas=True, normalize=True).encode([noise])
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-4)
    raw = mfcc(noise, 13, deltas=True).astype(np.float64)
    expected = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    np.testing.assert_allclose(frames, expected, atol=1e-3)


@pytest.mark.parametrize("band", [8, 15, 20, 30, 38])
def test_a_tone_shows_in_the_band_centred_on_it(band: int) -> None:
    spacing = (mel(8000) - mel(20)) / (MEL_FILTERS + 1)
    hertz = inverse_mel(mel(20) + (band + 1) * spacing)
    tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
    assert np.all(log_mel(tone).argmax(axis=1) == band)


@settings(max_examples=20, deadline=None)
@given(hops=st.integers(1, 12), gain=st.floats(0.05, 20.0), seed=st.integers(0, 1000))
def test_later_by_hops_is_the_same_frames_later_and_louder_is_an_offset(
    hops: int, gain: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    waveform = (0.05 * rng.standard_normal(8_000)).astype(np.float32)
    before = log_mel(waveform)
    later = log_mel(waveform[hops * HOP :])
    # The very first sample has no true predecessor for the pre-emphasis.
    np.testing.assert_allclose(later[1:], before[hops + 1 :], atol=1e-4)
    louder = log_mel(np.float32(gain) * waveform)
    np.testing.assert_allclose(louder - before, 2 * math.log(gain), atol=2e-3)


def test_a_ramp_has_its_slope_as_difference() -> None:
    ramp = np.outer(np.arange(20, dtype=np.float32), np.array([1.0, -3.0], dtype=np.float32))
    slope = delta(ramp)
    np.testing.assert_allclose(slope[2:-2], np.tile([1.0, -3.0], (16, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("n_samples", "n_frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)]
)
@pytest.mark.parametrize("normalize", [True, False])
def test_only_whole_windows_give_frames(n_samples: int, n_frames: int, normalize: bool) -> None:
    encoder = MfccEncoder(13, deltas=True, normalize=normalize)
    (frames,) = encoder.encode([np.full(n_samples, 0.1, dtype=np.float32)])
    assert frames.shape == (n_frames, 39)
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()


def test_digital_silence_is_finite() -> None:
    (frames,) = MfccEncoder().encode([np.zeros(RATE, dtype=np.float32)])
    np.testing.assert_array_equal(frames, 0)


def test_a_broken_sample_spoils_only_the_frames_that_hold_it() -> None:
    waveform = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    waveform[4_000] = np.nan
    spoilt = ~np.isfinite(log_mel(waveform)).all(axis=1)
    starts = np.arange(len(spoilt)) * HOP
    np.testing.assert_array_equal(spoilt, (starts <= 4_001) & (starts + 400 > 4_000))


def test_long_audio_equals_its_blocks() -> None:
    waveform = np.random.default_rng(1).standard_normal(12 * RATE).astype(np.float32)
    whole = log_mel(waveform)
    assert len(whole) > 2 * 512
    tail = log_mel(waveform[1_000 * HOP :])
    np.testing.assert_allclose(whole[1_001:], tail[1:], atol=1e-4)
