"""A voice of which the matching has understood about half, in the folders of finished stages.

The generator has learned another voice of the same made-up language, whose phones are known. On the
second voice each phone is off on its own, so that about every second phone is misread, always in
the same way: there is something to learn, and words of the text know better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from planted_run import write_segments, write_text_artifact
from rapidfuzz.distance import Levenshtein
from two_voices import two_voices, write_labelled

from wav2vec_u.config import GraphConfig, SelftrainConfig
from wav2vec_u.graph import stage as graph_stage
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.matching.frame_hmm import PAUSE
from wav2vec_u.matching.frame_teacher import Lesson, teach
from wav2vec_u.matching.generator import GENERATOR_NAME, Generator, save_generator
from wav2vec_u.matching.stage import SYNTHETIC_NAME
from wav2vec_u.matching.synthetic import SyntheticSegments
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.files import write_json
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.selftrain import rounds
from wav2vec_u.testing.language import Language, make_language
from wav2vec_u.testing.planted import PlantedSegments
from wav2vec_u.text.corpus import PhoneText

SENTENCES = 400
BEAM, LATTICE_BEAM, MAX_ACTIVE = 12.0, 6.0, 4000
# The noise of a planted segment is its own: neighbours tell nothing, and nothing is counted twice.
LEARNING: dict[str, Any] = {
    "rounds": 2,
    "generator_power": 0.5,
    "mixture_power": 0.5,
    "stay_probability": 0.7,
    "min_phone_share": 0.0,
    "mixture_context": 0,
    "mixture_dim": 16,
    "mixture_components": 2,
    "sure": 0.5,
    "word_sure": 0.1,
    "epochs": 8,
    "learning_rate": 0.01,
    "beam": BEAM,
    "lattice_beam": LATTICE_BEAM,
    "max_active": MAX_ACTIVE,
}
# Too little to learn much, but all that is done is done.
TINY = {**LEARNING, "epochs": 1, "mixture_components": 1}


@dataclass(frozen=True)
class HalfUnderstood:
    """The second voice, and what there is to understand it by.

    Attributes
    ----------
    planted : PlantedSegments
        The second voice; ids of phones are those of the text artefact.
    synthetic : PlantedSegments
        The first voice.
    segments, text, matching, graph : Path
        Finished artefacts; the graph is empty before `build_graph`.
    start : Generator
        What the matching has learned.
    store : SegmentStore
    said : SyntheticSegments
        The first voice, moved to the mean and covariance of the second.
    """

    planted: PlantedSegments
    synthetic: PlantedSegments
    segments: Path
    text: Path
    matching: Path
    graph: Path
    start: Generator
    store: SegmentStore
    said: SyntheticSegments

    @property
    def train(self) -> list[int]:
        return [i for i, split in enumerate(self.planted.splits) if split == "train"]

    @property
    def test(self) -> list[int]:
        return [i for i, split in enumerate(self.planted.splits) if split == "test"]

    def build_graph(self) -> SearchSettings:
        """Build the graph of words, unless it is there."""
        if not graph_stage.usable(self.graph):
            config = GraphConfig(fragments=0, silence_probability=0.25)
            text = self.text.with_name(f"{self.text.name}.txt")
            graph_stage.run(Work(self.graph), config, text, "en", self.text)
        return SearchSettings(self.graph, BEAM, LATTICE_BEAM, MAX_ACTIVE, stay=0.7)

    def error_rate(self, posteriors: Iterable[NDArray[np.float32]]) -> float:
        """Phone error rate of the held-out utterances, percent."""
        errors = phones = 0
        for rows, i in zip(posteriors, self.test, strict=True):
            best = rows.argmax(axis=1)
            merged = best[np.r_[True, best[1:] != best[:-1]]]
            truth = self.planted.truth(i).tolist()
            errors += Levenshtein.distance(merged[merged != PAUSE].tolist(), truth)
            phones += len(truth)
        return 100 * errors / phones


@cache
def _voices() -> tuple[Language, PlantedSegments, PlantedSegments]:
    language = make_language(1, n_consonants=8, n_vowels=4)
    voices = two_voices(language, synthetic=40, real=50, shift=1.8, noise=1.2)
    return language, voices.synthetic, voices.real


def half_understood(folder: Path) -> HalfUnderstood:
    """Write the artefacts; the matching leaves its generator and the synthetic speech."""
    language, first, second = _voices()
    text = write_text_artifact(folder / "text", language, SENTENCES)
    phones = PhoneText(text).phones
    ids = np.array([phones.index(phone) for phone in language.phones])
    synthetic, planted = renamed(first, ids), renamed(second, ids)
    segments = write_segments(folder / "segments", planted)
    matching, graph = folder / "matching", folder / "graph"
    write_labelled(matching / SYNTHETIC_NAME, synthetic)
    graph.mkdir()
    store = SegmentStore(segments)
    train = [i for i, split in enumerate(planted.splits) if split == "train"]
    said = SyntheticSegments(matching / SYNTHETIC_NAME, store, train)
    start = _taught(said, len(phones))
    save_generator(matching / GENERATOR_NAME, start)
    return HalfUnderstood(planted, synthetic, segments, text, matching, graph, start, store, said)


def write_matching(folder: Path, generator: Generator) -> Path:
    """Write what a matching without synthetic speech leaves."""
    folder.mkdir(parents=True)
    save_generator(folder / GENERATOR_NAME, generator)
    return folder


def settings(**changes: Any) -> SelftrainConfig:
    return SelftrainConfig(**{**LEARNING, **changes})


def tiny(**changes: Any) -> SelftrainConfig:
    return SelftrainConfig(**{**TINY, **changes})


def tell_gains(monkeypatch: pytest.MonkeyPatch, gains: Sequence[float]) -> None:
    """Let every round measure a gain of its own, whatever it has learned."""
    monkeypatch.setattr(
        rounds,
        "write_json",
        lambda path, value: write_json(
            path, {**value, "gain": gains[int(path.parent.name.removeprefix("round_"))]}
        ),
    )


def renamed(segments: PlantedSegments, ids: NDArray[np.int64]) -> PlantedSegments:
    """Give the phones other ids."""
    count = range(len(segments))
    return PlantedSegments(
        [segments.vectors(i) for i in count],
        [ids[segments.labels(i)] for i in count],
        segments.splits,
    )


def _taught(said: SyntheticSegments, n_phones: int) -> Generator:
    """Teach a generator the first voice."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(said.dim, n_phones, kernel=1, hidden=32, batch_norm=1.0)
    lessons = [Lesson(partial(said.vectors, i), said.labels(i)) for i in range(len(said))]
    teach(generator, lessons, epochs=20, learning_rate=0.01, weight_decay=0.05, seed=0)
    return generator
