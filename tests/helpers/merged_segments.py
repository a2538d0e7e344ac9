"""A voice whose segments often hold two phones, in the folders of finished stages.

The frames tell the phones apart, and the matching knows every phone where a segment is of one. So
what is missed is missed because of the segments, and frames know better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from half_understood import renamed
from numpy.typing import NDArray
from planted_run import without_silence, write_text_artifact
from rapidfuzz.distance import Levenshtein

from wav2vec_u.config import SegmentsConfig
from wav2vec_u.features.store import FrameStore, FrameStoreWriter
from wav2vec_u.matching.frame_hmm import PAUSE
from wav2vec_u.matching.frame_teacher import Lesson, teach
from wav2vec_u.matching.generator import GENERATOR_NAME, Generator, save_generator
from wav2vec_u.segments.boundaries import run_bounds
from wav2vec_u.segments.load import SEGMENTER_NAME
from wav2vec_u.segments.pooling import mean_over_bounds
from wav2vec_u.segments.segmenter import Segmenter, Segments
from wav2vec_u.segments.store import SegmentStore, SegmentStoreWriter
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.selftrain.inputs import open_inputs
from wav2vec_u.testing.language import Language, make_language
from wav2vec_u.testing.planted import PlantedSegments, plant
from wav2vec_u.text.corpus import PhoneText

MERGED = 0.35  # of the boundaries are missed
RATE_HZ = 50.0


@dataclass(frozen=True)
class MergedSegments:
    """The frames, whose phones are known, and what stages have left of them.

    Attributes
    ----------
    planted : PlantedSegments
        One "segment" a frame.
    features, segments, text, matching : Path
    """

    planted: PlantedSegments
    features: Path
    segments: Path
    text: Path
    matching: Path

    def error_rate(self, model: FrameModel) -> float:
        """Phone error rate of the held-out utterances, percent."""
        inputs = open_inputs(model.reads, self.segments, self.features)
        errors = phones = 0
        for i, split in enumerate(inputs.splits):
            if split != "test":
                continue
            (posteriors,) = model.read([inputs.vectors(i)])
            best = posteriors.argmax(axis=1)
            said = best[np.r_[True, best[1:] != best[:-1]]]
            truth = self.planted.truth(i).tolist()
            errors += Levenshtein.distance(said[said != PAUSE].tolist(), truth)
            phones += len(truth)
        return 100 * errors / phones


@cache
def _voice() -> tuple[Language, PlantedSegments]:
    language = make_language(1, n_consonants=8, n_vowels=4)
    planted = plant(language, utterances=60, sentences=1, dim=8, noise=0.5, repeats=0.75, seed=2)
    return language, without_silence(planted.segments)


def merged_segments(folder: Path) -> MergedSegments:
    """Write the artefacts."""
    language, frames = _voice()
    text = write_text_artifact(folder / "text", language, 400)
    phones = PhoneText(text).phones
    planted = renamed(frames, np.array([phones.index(phone) for phone in language.phones]))
    features = folder / "features"
    features.mkdir()
    with FrameStoreWriter(features, dim=planted.dim, frame_rate_hz=RATE_HZ, encoder="none") as out:
        for i, name in enumerate(planted.ids):
            vectors = planted.vectors(i)
            times = np.arange(len(vectors), dtype=np.float32) / np.float32(RATE_HZ)
            out.append(name, vectors, times, audio="", split=planted.splits[i], speaker=None)
    segments, labels = _write_segments(folder / "segments", FrameStore(features), planted)
    matching = folder / "matching"
    matching.mkdir()
    save_generator(matching / GENERATOR_NAME, _taught(segments, labels, len(phones)))
    return MergedSegments(planted, features, segments, text, matching)


def _write_segments(
    folder: Path, store: FrameStore, planted: PlantedSegments
) -> tuple[Path, list[NDArray[np.int32]]]:
    """Return the folder, and the phone that most of each segment is of."""
    folder.mkdir()
    config = SegmentsConfig(
        boundaries="viterbi", clusters=8, kmeans_iterations=3, kmeans_restarts=1
    )
    segmenter = Segmenter(config).fit(store)
    segmenter.save(folder / SEGMENTER_NAME)
    rng = np.random.default_rng(5)
    labels = []
    with SegmentStoreWriter(folder, segmenter.dim, RATE_HZ) as out:
        for i, name in enumerate(store.ids):
            truth = planted.labels(i)
            starts = run_bounds(truth.astype(np.int32))[:, 0]
            kept = (rng.random(len(starts)) >= MERGED) | (starts == 0)
            edges = np.r_[starts[kept], len(truth)].astype(np.int32)
            bounds = np.stack([edges[:-1], edges[1:]], axis=1)
            vectors = segmenter.pca_.transform(mean_over_bounds(store.frames(i), bounds))
            item = Segments(vectors, np.zeros(len(bounds), np.int32), bounds)
            out.append(name, item, store.times(i), split=store.splits[i], speaker=None)
            most = [np.bincount(truth[first:end]).argmax() for first, end in bounds]
            labels.append(np.array(most, np.int32))
    return folder, labels


def _taught(segments: Path, labels: list[NDArray[np.int32]], n_phones: int) -> Generator:
    store = SegmentStore(segments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(store.dim, n_phones, kernel=1, hidden=32, batch_norm=1.0)

    def reader(i: int) -> Callable[[], NDArray[np.float32]]:
        return lambda: store.vectors(i)

    lessons = [Lesson(reader(i), own) for i, own in enumerate(labels)]
    teach(generator, lessons, epochs=20, learning_rate=0.01, weight_decay=0.05, seed=0)
    return generator
