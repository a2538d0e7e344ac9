"""One made-up language in two voices: one whose phones are known, and one of the recordings.

What the second voice says is that of the first, passed through an affine map, and every phone is
moved a little on its own besides. The map can be undone without labels, the moves cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStoreWriter
from wav2vec_u.testing.language import Language
from wav2vec_u.testing.planted import PlantedSegments, PlantedText, plant

STRETCH = 1.0  # natural logarithm: directions are stretched by up to e, or shrunk
TEST_SHARE = 0.2


@dataclass(frozen=True)
class TwoVoices:
    """Segments of both voices with their phones, ids as in `language`, and unpaired text."""

    language: Language
    text: PlantedText
    synthetic: PlantedSegments
    real: PlantedSegments


def two_voices(
    language: Language, *, synthetic: int, real: int, shift: float, noise: float, dim: int = 16
) -> TwoVoices:
    """Let both voices speak.

    Parameters
    ----------
    language : Language
    synthetic, real : int
        Utterances of each; no sentence is drawn for both.
    shift : float
        Standard deviation, in every dimension, of what is added to a phone of the second voice;
        phones differ by a standard deviation of 1.
    noise : float
        Standard deviation of the noise of single segments.
    dim : int
    """
    planted = plant(
        language, utterances=synthetic + real, sentences=400, dim=dim, noise=noise, repeats=0.7
    )
    said = planted.segments
    rng = numpy_generator(1, "second voice")
    shifts = shift * rng.standard_normal((len(language.phones), dim))
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    stretched = (basis * np.exp(rng.uniform(-STRETCH, STRETCH, dim))) @ basis.T
    offset = 8 * rng.standard_normal(dim)

    def second_voice(i: int) -> NDArray[np.float32]:
        moved = (said.vectors(i) + shifts[said.labels(i)]) @ stretched + offset
        return moved.astype(np.float32)

    first, second = range(synthetic), range(synthetic, synthetic + real)
    n_test = round(TEST_SHARE * real)
    return TwoVoices(
        language,
        planted.text,
        PlantedSegments(
            [said.vectors(i) for i in first],
            [said.labels(i) for i in first],
            ["train"] * synthetic,
        ),
        PlantedSegments(
            [second_voice(i) for i in second],
            [said.labels(i) for i in second],
            ["train"] * (real - n_test) + ["test"] * n_test,
        ),
    )


def write_labelled(folder: Path, segments: PlantedSegments) -> Path:
    """Write segments as `matching.synthetic.write_synthetic` does: their codes are the labels."""
    folder.mkdir(parents=True, exist_ok=True)
    with SegmentStoreWriter(folder, segments.dim, 100.0) as writer:
        for i, name in enumerate(segments.ids):
            vectors, labels = segments.vectors(i), segments.labels(i).astype(np.int32)
            starts = np.arange(len(vectors), dtype=np.int32)
            writer.append(
                name,
                Segments(vectors, labels, np.stack([starts, starts + 1], axis=1)),
                starts.astype(np.float32) / 100,
                split="train",
                speaker=None,
            )
    return folder
