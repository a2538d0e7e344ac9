"""Frames as segments: what goes in comes out, and the stage writes it down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from planted_frames import MemoryFrames

from wav2vec_u.config import SegmentsConfig
from wav2vec_u.features.store import FrameStoreWriter
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.checkpoint import save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.frame_segmenter import FrameSegmenter
from wav2vec_u.segments.load import SEGMENTER_NAME, load_segmenter, make_segmenter
from wav2vec_u.segments.segmenter import Segmenter
from wav2vec_u.segments.stage import run
from wav2vec_u.segments.store import SegmentStore

CONFIG = SegmentsConfig(boundaries="frames")
DIM = 5


def noise(length: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(length, dim)).astype(np.float32)


def fitted(dim: int = DIM) -> FrameSegmenter:
    return FrameSegmenter(CONFIG).fit(MemoryFrames([noise(4, dim)]))


# --- the segmenter ---


def test_every_frame_comes_back_as_a_segment_of_its_own() -> None:
    segmenter = fitted()
    frames = noise(7, seed=1)
    segments = segmenter.transform(frames.copy())
    np.testing.assert_array_equal(segments.vectors, frames)
    assert segments.bounds.tolist() == [[t, t + 1] for t in range(7)]
    assert segments.codes.tolist() == [0] * 7
    assert len(segments) == 7
    assert segmenter.dim == segmenter.frame_dim == DIM
    assert segmenter.figures == {}


@pytest.mark.parametrize("length", [0, 1])
def test_an_empty_and_a_shortest_utterance_keep_shapes_and_types(length: int) -> None:
    segments = fitted().transform(noise(length))
    assert segments.vectors.shape == (length, DIM)
    assert segments.codes.shape == (length,)
    assert segments.bounds.shape == (length, 2)
    kinds = [array.dtype for array in (segments.vectors, segments.codes, segments.bounds)]
    assert kinds == [np.float32, np.int32, np.int32]


def test_frames_of_other_types_become_float32() -> None:
    frames = noise(6).astype(np.float16)
    segments = fitted().transform(frames)
    assert segments.vectors.dtype == np.float32
    np.testing.assert_array_equal(segments.vectors, frames.astype(np.float32))


@pytest.mark.parametrize("shape", [(4, DIM + 1), (0, DIM - 1), (DIM,), (2, 3, DIM)])
def test_frames_of_another_dimension_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"expected \(T, {DIM}\)"):
        fitted().transform(np.zeros(shape, np.float32))


def test_what_has_not_learned_says_so(tmp_path: Path) -> None:
    segmenter = FrameSegmenter(CONFIG)
    with pytest.raises(RuntimeError, match="FrameSegmenter is not fitted yet"):
        segmenter.transform(noise(3))
    with pytest.raises(RuntimeError, match="not fitted yet"):
        _ = segmenter.dim
    with pytest.raises(RuntimeError, match="not fitted yet"):
        _ = segmenter.frame_dim
    with pytest.raises(RuntimeError, match="not fitted yet"):
        segmenter.save(tmp_path / SEGMENTER_NAME)
    assert not list(tmp_path.iterdir())


def test_test_utterances_and_unusable_ones_teach_nothing() -> None:
    broken = np.full((3, 8), np.nan, np.float32)
    source = MemoryFrames(
        [noise(4, 7), np.empty((0, 9), np.float32), broken, noise(1)],
        splits=["test", "train", "train", "train"],
    )
    assert FrameSegmenter(CONFIG).fit(source).dim == DIM


@pytest.mark.parametrize(
    "unusable",
    [np.empty((0, DIM), np.float32), np.full((3, DIM), np.nan), np.full((1, DIM), np.inf)],
    ids=["empty", "NaN", "infinity"],
)
def test_nothing_usable_to_learn_from_is_said(unusable: np.ndarray) -> None:
    source = MemoryFrames([unusable, noise(4)], splits=["train", "test"])
    with pytest.raises(UserError, match=r"segments: .*`train` has usable frames"):
        FrameSegmenter(CONFIG).fit(source)


def test_no_training_utterance_at_all_is_said() -> None:
    with pytest.raises(UserError, match=r"segments: no utterance is in split `train`"):
        FrameSegmenter(CONFIG).fit(MemoryFrames([noise(4)], splits=["test"]))


# --- which segmenter ---


@pytest.mark.parametrize(
    ("boundaries", "kind"),
    [("frames", FrameSegmenter), ("viterbi", Segmenter), ("clusters", Segmenter)],
)
def test_the_settings_pick_the_segmenter_and_its_file_brings_it_back(
    tmp_path: Path, boundaries: Literal["frames", "viterbi", "clusters"], kind: type
) -> None:
    config = SegmentsConfig(boundaries=boundaries, clusters=4, pca_dim=3)
    segmenter = make_segmenter(config)
    assert type(segmenter) is kind
    assert segmenter.config == config
    segmenter.fit(MemoryFrames([noise(40, seed=seed) for seed in range(4)]))
    segmenter.save(tmp_path / SEGMENTER_NAME)

    loaded = load_segmenter(tmp_path)
    assert type(loaded) is kind
    assert loaded.config == config
    assert loaded.dim == segmenter.dim
    assert loaded.frame_dim == segmenter.frame_dim == DIM
    assert loaded.figures == segmenter.figures
    one, other = (item.transform(noise(9, seed=8)) for item in (segmenter, loaded))
    np.testing.assert_array_equal(one.vectors, other.vectors)
    np.testing.assert_array_equal(one.codes, other.codes)
    np.testing.assert_array_equal(one.bounds, other.bounds)


def test_a_missing_or_damaged_file_is_a_users_error(tmp_path: Path) -> None:
    path = tmp_path / SEGMENTER_NAME
    with pytest.raises(UserError, match=r"segmenter\.safetensors"):
        load_segmenter(tmp_path)
    fitted().save(path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no safetensors"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"segmenter\.safetensors"):
            load_segmenter(tmp_path)
        with pytest.raises(UserError, match=r"segmenter\.safetensors"):
            FrameSegmenter.load(path)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"weights": torch.ones(2)},
        {"frame_dim": DIM},
        {"frame_dim": None, "config": {"boundaries": "frames"}},
        {"frame_dim": DIM, "config": {"boundaries": "words"}},
        {"frame_dim": DIM, "config": {"no such setting": 1}},
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    tmp_path: Path, state: dict[str, object]
) -> None:
    save_checkpoint(tmp_path / SEGMENTER_NAME, state)
    message = r"segmenter\.safetensors: holds no segmenter; run the segments stage again"
    with pytest.raises(UserError, match=message):
        load_segmenter(tmp_path)
    with pytest.raises(UserError, match=message):
        FrameSegmenter.load(tmp_path / SEGMENTER_NAME)


# --- the stage ---

RATE_HZ = 50.0
Utterance = tuple[str, str, np.ndarray, np.ndarray]  # id, split, frames, times


def planted() -> list[Utterance]:
    """Return utterances that begin somewhere in a recording and have silence cut out of them."""
    rng = np.random.default_rng(0)
    made = []
    for i, length in enumerate((12, 1, 7, 3)):
        gaps = np.where(np.arange(length) >= 5, 0.8, 0.0)
        times = (10 * i + np.arange(length) / RATE_HZ + gaps).astype(np.float32)
        frames = rng.normal(size=(length, DIM)).astype(np.float32)
        made.append((f"u{i}", "test" if i == 2 else "train", frames, times))
    return made


def run_stage(folder: Path, utterances: Sequence[Utterance]) -> Work:
    features = folder / "features"
    features.mkdir(parents=True)
    with FrameStoreWriter(features, dim=DIM, frame_rate_hz=RATE_HZ, encoder="planted") as writer:
        for name, split, frames, times in utterances:
            writer.append(name, frames, times, audio="a.wav", split=split, speaker=name[0])
    work = Work(folder / "segments")
    work.folder.mkdir()
    run(work, CONFIG, features)
    return work


def test_the_stage_writes_the_stored_frames_and_their_times(tmp_path: Path) -> None:
    utterances = planted()
    store = SegmentStore(run_stage(tmp_path, utterances).folder)
    assert store.ids == [name for name, *_ in utterances]
    assert store.splits == [split for _, split, *_ in utterances]
    assert store.speakers == ["u"] * len(utterances)
    assert store.dim == DIM
    for i, (_, _, frames, times) in enumerate(utterances):
        kept = frames.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(store.vectors(i), kept)
        np.testing.assert_array_equal(store.times(i)[:, 0], times)
        np.testing.assert_allclose(store.times(i)[:, 1], times + 1 / RATE_HZ, atol=1e-5)
        np.testing.assert_array_equal(store.bounds(i)[:, 0], np.arange(len(frames)))
        np.testing.assert_array_equal(store.bounds(i)[:, 1], np.arange(1, len(frames) + 1))
        assert not store.codes(i).any()


def test_the_stage_counts_frames_and_has_no_figures_of_clusters(tmp_path: Path) -> None:
    work = run_stage(tmp_path, planted())
    assert work.counts == {
        "utterances": 4,
        "segments": 12 + 1 + 7 + 3,
        "rejected": {},
        "short_utterances": 1,
        "segment_rate_hz": pytest.approx(RATE_HZ),
    }
    json.dumps(work.counts)  # goes into stage.json


def test_the_stage_passes_over_bad_utterances_and_lists_them(tmp_path: Path) -> None:
    few = np.arange(3, dtype=np.float32)
    broken = noise(3)
    broken[1, 2] = np.nan
    bad = [
        ("broken", "train", broken, few),
        ("empty", "train", np.empty((0, DIM), np.float32), few[:0]),
    ]
    work = run_stage(tmp_path, [*bad, *planted()])
    assert SegmentStore(work.folder).ids == [name for name, *_ in planted()]
    assert work.counts["rejected"] == {"not_finite": 1, "no_frames": 1}
    lines = (work.folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["what"] for line in lines] == ["broken", "empty"]


def test_the_stage_leaves_a_segmenter_that_cuts_as_it_did(tmp_path: Path) -> None:
    utterances = planted()
    work = run_stage(tmp_path, utterances)
    segmenter = load_segmenter(work.folder)
    assert isinstance(segmenter, FrameSegmenter)
    segments = segmenter.transform(utterances[0][2].astype(np.float16).astype(np.float32))
    store = SegmentStore(work.folder)
    np.testing.assert_array_equal(segments.vectors, store.vectors(0))
    np.testing.assert_array_equal(segments.bounds, store.bounds(0))


def test_the_stage_says_when_there_is_nothing_to_learn_from(tmp_path: Path) -> None:
    tests = [(name, "test", frames, times) for name, _, frames, times in planted()]
    with pytest.raises(UserError, match="`train`"):
        run_stage(tmp_path / "untrained", tests)
    broken = np.full((3, DIM), np.nan, np.float32)
    with pytest.raises(UserError, match="`train` has usable frames"):
        run_stage(tmp_path / "broken", [("a", "train", broken, np.arange(3.0)), *tests])
