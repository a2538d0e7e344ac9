"""How fast someone speaks is told from how fast segments change."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec_u.matching.speaking_rate import LEAST_UTTERANCES, estimate_phone_rate
from wav2vec_u.testing.planted import PlantedSegments

PHONES, DIM, RATE_HZ = 20, 16, 50.0
NOISE = 0.5


def speech(rates_hz: list[float], seed: int, segments: int = 250) -> PlantedSegments:
    """One utterance a rate: phones are random vectors, pauses (0) lie at both ends."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((PHONES, DIM))
    vectors, labels = [], []
    for rate_hz in rates_hz:
        phones = rng.integers(1, PHONES, size=segments)
        label = np.repeat(phones, rng.geometric(rate_hz / RATE_HZ, size=segments))[:segments]
        label[:5] = label[-5:] = 0
        noise = NOISE * rng.standard_normal((segments, DIM))
        vectors.append((centres[label] + noise).astype(np.float32))
        labels.append(label)
    return PlantedSegments(vectors, labels, ["train"] * len(rates_hz))


@pytest.fixture(scope="module")
def synthetic() -> PlantedSegments:
    return speech(np.random.default_rng(1).uniform(8, 16, size=80).tolist(), seed=2)


@pytest.mark.parametrize("rate_hz", [9.0, 12.0, 15.0])
def test_the_rate_is_found(synthetic: PlantedSegments, rate_hz: float) -> None:
    real = speech([rate_hz] * 20, seed=3)
    said = sum(len(real.truth(i)) for i in range(len(real))) / (20 * 240 / RATE_HZ)
    found = estimate_phone_rate(synthetic, real, list(range(len(real))), RATE_HZ)
    assert found == pytest.approx(said, rel=0.07)


def test_only_the_utterances_that_are_asked_for_count(synthetic: PlantedSegments) -> None:
    real = speech([8.0] * 10 + [16.0] * 10, seed=4)
    slow = estimate_phone_rate(synthetic, real, list(range(10)), RATE_HZ)
    fast = estimate_phone_rate(synthetic, real, list(range(10, 20)), RATE_HZ)
    assert slow is not None and fast is not None
    assert fast > 1.5 * slow


def test_pauses_of_the_voice_do_not_count(synthetic: PlantedSegments) -> None:
    """A voice that pauses half of the time speaks as fast as before."""
    pause, silent = np.zeros((250, DIM), np.float32), np.zeros(250, np.int64)
    longer = PlantedSegments(
        [np.vstack([synthetic.vectors(i), pause]) for i in range(len(synthetic))],
        [np.concatenate([synthetic.labels(i), silent]) for i in range(len(synthetic))],
        synthetic.splits,
    )
    real = speech([12.0] * 10, seed=5)
    which = list(range(10))
    expected = estimate_phone_rate(synthetic, real, which, RATE_HZ)
    assert estimate_phone_rate(longer, real, which, RATE_HZ) == pytest.approx(expected)


def test_too_little_tells_nothing(synthetic: PlantedSegments) -> None:
    few = speech([10.0] * (LEAST_UTTERANCES - 1), seed=6)
    short = speech([10.0] * 30, seed=6, segments=40)
    real = speech([12.0] * 3, seed=7)
    assert estimate_phone_rate(few, real, [0, 1, 2], RATE_HZ) is None
    assert estimate_phone_rate(synthetic, short, list(range(30)), RATE_HZ) is None
    assert estimate_phone_rate(synthetic, real, [], RATE_HZ) is None
