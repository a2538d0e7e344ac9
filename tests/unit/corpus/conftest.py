"""Sound files, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter


class Files:
    """Writes sound files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def noise(self, seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
        """Noise that is louder at low frequencies, as speech is: white noise is rejected."""
        white = np.random.default_rng(seed).standard_normal(round(seconds * rate))
        return (0.03 * lfilter([1.0], [1.0, -0.95], white)).astype(np.float32)

    def write(self, name: str, samples: np.ndarray, rate: int = 16_000, **kind: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".opus":
            kind = {"format": "OGG", "subtype": "OPUS"}
        soundfile.write(path, samples, rate, **kind)
        return path

    def cut_off(self, path: Path, share: float) -> Path:
        """Keep the first part of a file's bytes."""
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        return path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "audio")
