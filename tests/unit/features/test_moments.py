"""Mean and variance taken out of frames."""

from __future__ import annotations

import numpy as np

from wav2vec_u.features.moments import Moments, standardize


def test_a_coefficient_has_mean_0_and_deviation_1() -> None:
    frames = np.random.default_rng(0).normal([5.0, -80.0], [2.0, 0.1], (400, 2)).astype(np.float32)
    found = standardize(frames, Moments().add(frames))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-4)


def test_what_changes_in_its_last_bit_alone_does_not_change() -> None:
    value = np.float32(-87.3)
    frames = np.full((98, 2), value, dtype=np.float32)
    frames[:50, 0] = np.nextafter(value, np.float32(0))
    np.testing.assert_array_equal(standardize(frames, Moments().add(frames)), 0)
