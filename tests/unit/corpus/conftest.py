"""Sound files, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile


class Files:
    """Writes sound files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def noise(self, seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
        generator = np.random.default_rng(seed)
        return (0.1 * generator.standard_normal(round(seconds * rate))).astype(np.float32)

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
