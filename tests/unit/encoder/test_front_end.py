"""The front ends against slow formulas, and what they count as a step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.config import NetworkConfig
from wav2vec_u.encoder.front_end import (
    WAVE_KERNELS,
    WAVE_STRIDES,
    LogMelFrontEnd,
    WaveformFrontEnd,
    build_front_end,
    count_steps,
)

RATE = 16_000
BANDS = 20


def mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def slow_log_mel(waveform: np.ndarray, bands: int) -> np.ndarray:
    """One frame, band and bin at a time, in double precision: (T, bands)."""
    x = waveform.astype(np.float64)
    taper = [0.54 - 0.46 * math.cos(2 * math.pi * i / 400) for i in range(400)]
    low, high = mel(20), mel(8000)
    corners = [low + (high - low) * i / (bands + 1) for i in range(bands + 2)]
    n = np.arange(400)
    rows = []
    for start in range(0, len(x) - 400 + 1, 160):
        mean = sum(x[start : start + 400]) / 400
        frame = np.array([(x[start + i] - mean) * taper[i] for i in range(400)])
        power = [abs(np.sum(frame * np.exp(-2j * np.pi * k * n / 512))) ** 2 for k in range(257)]
        row = []
        for band in range(bands):
            left, centre, right = corners[band : band + 3]
            energy = 0.0
            for k in range(257):
                position = mel(k * RATE / 512)
                if left < position <= centre:
                    energy += power[k] * (position - left) / (centre - left)
                elif centre < position < right:
                    energy += power[k] * (right - position) / (right - centre)
            row.append(math.log(max(energy, 1e-10)))
        rows.append(row)
    return np.array(rows)


def noise(samples: int, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(samples) + 0.02).astype(np.float32)


def steps_of(front_end: LogMelFrontEnd | WaveformFrontEnd, waveform: np.ndarray) -> torch.Tensor:
    """The steps of a waveform alone, (T, C)."""
    lengths = torch.tensor([len(waveform)])
    count = count_steps(len(waveform), front_end.kernels, front_end.strides)
    valid = torch.ones(1, count, dtype=torch.bool)
    steps: torch.Tensor = front_end(torch.from_numpy(waveform)[None], lengths, valid)[0]
    return steps.detach()


def test_log_mel_equals_the_formula() -> None:
    waveform = noise(3_000)
    found = LogMelFrontEnd(BANDS, 2).log_mel(torch.from_numpy(waveform)[None], 17)[0]
    expected = slow_log_mel(waveform, BANDS)
    assert expected.shape == (17, BANDS)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-3)


def test_steps_are_normalised_frames_side_by_side() -> None:
    """Of 17 frames the 16 whole steps count, and they alone make mean and variance."""
    waveform = noise(3_000)
    frames = slow_log_mel(waveform, BANDS)[:16]
    normalised = (frames - frames.mean(axis=0)) / frames.std(axis=0)
    steps = steps_of(LogMelFrontEnd(BANDS, 4), waveform)
    np.testing.assert_allclose(steps.numpy(), normalised.reshape(4, 4 * BANDS), atol=2e-3)


def test_silence_and_a_single_step_are_finite() -> None:
    front_end = LogMelFrontEnd(BANDS, 4)
    for waveform in (np.zeros(8_000, np.float32), noise(880)):
        steps = steps_of(front_end, waveform)
        assert torch.isfinite(steps).all()
        assert float(steps.abs().max()) < 10


def test_loudness_does_not_matter() -> None:
    """Ten times as loud is one constant more in every log energy; for waves, the variance."""
    torch.manual_seed(0)
    for front_end in (LogMelFrontEnd(BANDS, 4), WaveformFrontEnd(6)):
        quiet, loud = (steps_of(front_end, scale * noise(8_000)) for scale in (0.1, 1.0))
        torch.testing.assert_close(quiet, loud, atol=0.02, rtol=0)


@pytest.mark.parametrize("hertz", [300, 1_000, 4_000])
def test_a_tone_is_loudest_in_its_band(hertz: int) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(4_000) / RATE).astype(np.float32)
    energies = LogMelFrontEnd(BANDS, 1).log_mel(torch.from_numpy(tone)[None], 20)[0]
    corners = np.linspace(mel(20), mel(8000), BANDS + 2)
    band = int(np.abs(corners[1:-1] - mel(hertz)).argmin())
    assert (energies.argmax(dim=1) == band).all()


@settings(deadline=None, max_examples=60)
@given(n_samples=st.integers(0, 20_000), stack=st.integers(1, 6))
def test_count_of_log_mel_steps(n_samples: int, stack: int) -> None:
    """As many as there are whole windows of 25 ms and the 10 ms steps stacked behind it."""
    front_end = LogMelFrontEnd(4, stack)
    starts = [
        s for s in range(0, n_samples, 160 * stack) if s + 400 + 160 * (stack - 1) <= n_samples
    ]
    assert count_steps(n_samples, front_end.kernels, front_end.strides) == len(starts)


@settings(deadline=None, max_examples=60)
@given(n_samples=st.integers(0, 20_000))
def test_count_of_waveform_steps(n_samples: int) -> None:
    """400 samples see one step, and 320 more another (wav2vec 2.0, section 4.2)."""
    expected = 0 if n_samples < 400 else (n_samples - 400) // 320 + 1
    assert count_steps(n_samples, WAVE_KERNELS, WAVE_STRIDES) == expected


def test_waveform_steps_are_as_many_as_counted() -> None:
    front_end = WaveformFrontEnd(6)
    for n_samples in (400, 719, 720, 5_000):
        features = front_end.feature_encoder(torch.zeros(1, n_samples))
        assert features.shape[2] == count_steps(n_samples, WAVE_KERNELS, WAVE_STRIDES)


def test_only_one_of_them_learns() -> None:
    log_mel = build_front_end(NetworkConfig(mel_bands=BANDS))
    waves = build_front_end(NetworkConfig(front_end="waveform", conv_channels=6))
    assert not log_mel.learns and not list(log_mel.parameters()) and not log_mel.state_dict()
    assert waves.learns and list(waves.parameters())


def test_convolutions_learn_ten_times_as_slowly() -> None:
    torch.manual_seed(0)
    front_end = WaveformFrontEnd(6)
    waveform = torch.from_numpy(noise(4_000))[None]
    valid = torch.ones(1, 12, dtype=torch.bool)
    weight = torch.randn(12, 6)
    normalised = (waveform - waveform.mean()) / (waveform.var(correction=0) + 1e-7).sqrt()
    plain = front_end.feature_encoder(normalised)[0].T[:12]
    scaled = front_end(waveform, torch.tensor([4_000]), valid)[0]
    torch.testing.assert_close(scaled, plain)
    learned = list(front_end.parameters())
    full = torch.autograd.grad((plain * weight).sum(), learned)
    found = torch.autograd.grad((scaled * weight).sum(), learned)
    for mine, theirs in zip(found, full, strict=True):
        torch.testing.assert_close(mine, 0.1 * theirs, atol=1e-5, rtol=1e-3)
