"""The matching stage on two voices, with a synthesiser that says the first of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from two_voice_rounds import VOICES
from two_voices import write_labelled

from wav2vec_u.config import FeaturesConfig, MatchingConfig
from wav2vec_u.matching import stage
from wav2vec_u.matching.synthetic import Speaker
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.testing.planted import PlantedSegments


@dataclass
class Studio:
    """Artefacts to match, and a synthesiser that says the first voice of the two."""

    real: Path
    text: Path
    calls: list[tuple[float, int]]

    def write(
        self,
        folder: Path,
        speaker: Speaker,
        outputs: dict[str, int],
        hours: float,
        seed: int,
        workers: int,
    ) -> None:
        """Stand in for `write_synthetic`."""
        assert speaker == self.speaker()
        self.calls.append((hours, seed))
        names = ["", *VOICES.language.phones[1:]]
        ids = np.array([outputs[name] for name in names])
        said = VOICES.synthetic
        labels = [ids[said.labels(i)] for i in range(len(said))]
        vectors = [said.vectors(i) for i in range(len(said))]
        write_labelled(folder, PlantedSegments(vectors, labels, said.splits))

    def speaker(self) -> Speaker:
        return Speaker(self.text, "en", FeaturesConfig(encoder="mfcc"), "cut", self.real)

    def run(self, folder: Path, config: MatchingConfig, resumed: bool = False) -> Work:
        folder.mkdir(exist_ok=True)
        work = Work(folder, resumed=resumed)
        stage.run(work, config, self.real, self.text, self.speaker())
        return work


def selection_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "selection.json").read_text())
    return found
