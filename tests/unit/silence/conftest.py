"""Voice-like sound with pauses at known places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile


class Voice:
    """Makes harmonic sound, its level moving four times a second, where the spans say so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(
        self, seconds: float, spans: Sequence[tuple[float, float]], noise: float = 5e-4
    ) -> np.ndarray:
        times = np.arange(round(seconds * 16_000)) / 16_000
        pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * times)
        phase = 2 * np.pi * np.cumsum(pitch) / 16_000
        sound = sum(np.sin(k * phase) / k for k in range(1, 20))
        level = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * times)
        speaks = np.zeros(len(times))
        for start, end in spans:
            speaks[round(start * 16_000) : round(end * 16_000)] = 1.0
        generator = np.random.default_rng(0)
        hiss = noise * generator.standard_normal(len(times))
        return (0.1 * sound * level * speaks + hiss).astype(np.float32)

    def write(self, name: str, samples: np.ndarray, rate: int = 16_000) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, subtype="FLOAT")
        return path


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Voice:
    return Voice(tmp_path_factory.mktemp("voice"))
