"""What a round leaves in its folder, be it one of the matching or of self-training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def place_of(folder: Path, number: int) -> Path:
    return folder / f"round_{number:02d}"


def labels_of(folder: Path, number: int) -> NDArray[np.int32]:
    found: NDArray[np.int32] = np.load(place_of(folder, number) / "labels.npy")
    return found


def figures_of(folder: Path, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place_of(folder, number) / "figures.json").read_text())
    return found
