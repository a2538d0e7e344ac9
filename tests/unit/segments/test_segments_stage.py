from __future__ import annotations

import json

import numpy as np
import pytest
from planted_frames import piecewise

from wav2vec_u.config import SegmentsConfig
from wav2vec_u.features.store import FrameStore, FrameStoreWriter
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.segmenter import Segmenter
from wav2vec_u.segments.stage import run
from wav2vec_u.segments.store import SegmentStore

CONFIG = SegmentsConfig(boundaries="viterbi", clusters=8, pca_dim=3, target_rate_hz=12.0)


def write_features(folder, utterances):
    folder.mkdir()
    with FrameStoreWriter(folder, dim=5, frame_rate_hz=100.0, encoder="planted") as writer:
        for name, split, frames in utterances:
            times = 1.0 + np.arange(len(frames), dtype=np.float32) / 100
            writer.append(name, frames, times, audio="a.wav", split=split, speaker="anna")
    return folder


def planted(n_utterances=15, noise=1.0):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 5))
    return [
        (f"u{i}", "test" if i % 5 == 4 else "train", piecewise(rng, centres, 30, noise=noise)[0])
        for i in range(n_utterances)
    ]


def run_stage(folder, features, config=CONFIG):
    folder.mkdir()
    work = Work(folder)
    run(work, config, features)
    return work


def test_stage(tmp_path):
    broken = np.full((5, 5), np.nan, np.float32)
    empty = np.empty((0, 5), np.float32)
    utterances = planted()
    short = utterances[0][2][:1]
    features = write_features(
        tmp_path / "features",
        [
            *utterances[:3],
            ("broken", "train", broken),
            ("empty", "test", empty),
            ("short", "train", short),
            *utterances[3:],
        ],
    )
    work = run_stage(tmp_path / "segments", features)

    frames = FrameStore(features)
    store = SegmentStore(work.folder)
    kept = [i for i, name in enumerate(frames.ids) if name not in ("broken", "empty")]
    assert store.ids == [frames.ids[i] for i in kept]
    assert store.splits == [frames.splits[i] for i in kept]
    assert store.speakers == ["anna"] * len(kept)
    assert store.dim == 3

    segmenter = Segmenter.load(work.folder / "segmenter.safetensors")
    for place, i in enumerate(kept):
        segments = segmenter.transform(frames.frames(i))
        np.testing.assert_array_equal(store.vectors(place), segments.vectors)
        np.testing.assert_array_equal(store.codes(place), segments.codes)
        np.testing.assert_array_equal(store.bounds(place), segments.bounds)
        assert store.bounds(place)[-1, 1] == len(frames.frames(i))
        np.testing.assert_allclose(store.times(place), 1 + segments.bounds / 100, atol=1e-4)

    counts = work.counts
    n_segments = sum(len(store.codes(i)) for i in range(len(store)))
    n_frames = sum(len(frames.frames(i)) for i in kept)
    assert counts["utterances"] == len(kept)
    assert counts["segments"] == n_segments
    assert counts["segment_rate_hz"] == pytest.approx(100 * n_segments / n_frames)
    assert counts["segment_rate_hz"] == pytest.approx(12.0, rel=0.1)  # test utterances are in it
    assert counts["rejected"] == {"not_finite": 1, "no_frames": 1}
    assert counts["short_utterances"] == 1
    assert counts["penalty"] == segmenter.penalty_ > 0
    assert 0 < counts["pca_explained"] < 1
    assert counts["kmeans_inertia"] > 0
    json.dumps(counts)  # goes into stage.json

    lines = (work.folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    rejected = [json.loads(line) for line in lines]
    assert [(row["what"], row["reason"]) for row in rejected] == [
        ("broken", "not_finite"),
        ("empty", "no_frames"),
    ]


def test_same_input_same_files(tmp_path):
    features = write_features(tmp_path / "features", planted())
    one = run_stage(tmp_path / "one", features).folder
    other = run_stage(tmp_path / "other", features).folder
    names = sorted(path.name for path in one.iterdir())
    assert names == [
        "bounds.npy",
        "codes.npy",
        "index.jsonl",
        "rejected.jsonl",
        "segmenter.safetensors",
        "times.npy",
        "vectors.npy",
    ]
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_another_seed_gives_other_clusters(tmp_path):
    features = write_features(tmp_path / "features", planted())
    one = run_stage(tmp_path / "one", features)
    other = run_stage(tmp_path / "other", features, CONFIG.model_copy(update={"seed": 1}))
    assert one.counts["kmeans_inertia"] != other.counts["kmeans_inertia"]


def test_too_little_to_learn_from(tmp_path):
    rng = np.random.default_rng(0)
    few = rng.normal(size=(6, 5)).astype(np.float32)
    features = write_features(tmp_path / "features", [("a", "train", few), ("b", "test", few)])
    with pytest.raises(UserError, match=r"segments\.clusters"):
        run_stage(tmp_path / "one", features)
    features = write_features(tmp_path / "untrained", [("b", "test", few)])
    with pytest.raises(UserError, match="`train`"):
        run_stage(tmp_path / "other", features)
