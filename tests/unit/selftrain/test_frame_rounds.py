"""From segments to frames: rounds find out where phones begin that no boundary tells apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from half_understood import LEARNING, write_matching
from merged_segments import MergedSegments, merged_segments
from planted_run import write_segments
from same_weights import same_weights

from wav2vec_u.config import DeciphermentConfig, SelftrainConfig
from wav2vec_u.decode import stage as decode_stage
from wav2vec_u.decode.hypotheses import read_hypotheses
from wav2vec_u.features.store import FrameStoreWriter
from wav2vec_u.matching.generator import Generator
from wav2vec_u.matching.readings import distil
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.segments.load import SEGMENTER_NAME
from wav2vec_u.selftrain import rounds, stage
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.selftrain.inputs import open_inputs, unpooled_frames
from wav2vec_u.selftrain.rounds import Collapsed, SelfTraining
from wav2vec_u.text.corpus import PhoneText


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> MergedSegments:
    """Nobody writes to it."""
    return merged_segments(tmp_path_factory.mktemp("merged"))


def settings(**changes: Any) -> SelftrainConfig:
    return SelftrainConfig(
        **{
            **LEARNING,
            "rounds": 1,
            "segments": {"generator_power": 0.5, "stay_probability": 0.1, "mixture_context": 0},
            "frames": {"rounds": 2, "kernel": 5, "hidden": 32, "dropout": 0.0},
            **changes,
        }
    )


def run(
    voice: MergedSegments, folder: Path, config: SelftrainConfig, resumed: bool = False
) -> Work:
    folder.mkdir(exist_ok=True)
    nothing = folder.parent / "no_graph"
    nothing.mkdir(exist_ok=True)
    work = Work(folder, resumed=resumed)
    stage.run(
        work,
        config,
        features=voice.features,
        segments=voice.segments,
        text=voice.text,
        matching=voice.matching,
        graph=nothing,
    )
    return work


def test_phones_that_segments_have_merged_are_found(voice: MergedSegments, tmp_path: Path) -> None:
    work = run(voice, tmp_path / "out", settings())
    found = FrameModel.load(tmp_path / "out")
    on_segments = FrameModel.load(tmp_path / "out/round_01")
    assert (on_segments.reads, found.reads) == ("segments", "frames")
    assert work.counts["frame_rounds"] == 2
    before, after = voice.error_rate(on_segments), voice.error_rate(found)
    assert before > 20, "every third boundary is missed"
    assert after < 0.6 * before
    # What reads segments has not changed for those that come before.
    assert FrameModel.load(tmp_path / "out/start").reads == "segments"
    rows = list(read_jsonl(tmp_path / "out/frames/log.jsonl"))
    assert [row["round"] for row in rows] == [1, 2], "it begins with labels, and not with a model"


def test_what_is_read_is_decoded_at_the_times_of_frames(
    voice: MergedSegments, tmp_path: Path
) -> None:
    run(voice, tmp_path / "out", settings())
    work = Work(tmp_path / "decode")
    work.folder.mkdir()
    decode_stage.run(work, voice.features, voice.segments, voice.text, tmp_path / "out")
    errors = []
    for item in read_hypotheses(work.folder):
        place = voice.planted.ids.index(item.id)
        labels = voice.planted.labels(place)
        begins = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]]) / 50
        errors += [float(np.abs(begins - span.start_s).min()) for span in item.spans]
    assert np.median(errors) < 0.005, "most phones begin at the very frame"


def test_without_rounds_on_frames_segments_are_read(voice: MergedSegments, tmp_path: Path) -> None:
    config = settings(frames={"rounds": 0}, epochs=1)
    work = run(voice, tmp_path / "out", config)
    assert FrameModel.load(tmp_path / "out").reads == "segments"
    assert "frame_rounds" not in work.counts
    assert not (tmp_path / "out/frames").exists()


@pytest.mark.parametrize("killed_at", [2, 3])
def test_a_kill_among_the_rounds_on_frames_changes_nothing(
    voice: MergedSegments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    monkeypatch.setattr(rounds, "LEAST_UPDATES", 4)
    config = settings(epochs=1)
    run(voice, tmp_path / "whole", config)
    teach, taught = rounds.teach, []

    def counting(generator: Generator, *arguments: Any, **named: Any) -> float:
        taught.append(generator)
        if len(taught) == killed_at:
            raise KeyboardInterrupt
        return teach(generator, *arguments, **named)

    monkeypatch.setattr(rounds, "teach", counting)
    with pytest.raises(KeyboardInterrupt):
        run(voice, tmp_path / "cut", config)
    run(voice, tmp_path / "cut", config, resumed=True)
    assert len(taught) == 4, "one on segments and two on frames, of which one was begun twice"
    one, other = (FrameModel.load(tmp_path / name) for name in ("cut", "whole"))
    assert one.reads == other.reads == "frames"
    assert same_weights(one.generator, other.generator)


def test_labels_that_collapse_on_frames_leave_the_model_of_segments(
    voice: MergedSegments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = SelfTraining._check_variety

    def collapsing(self: SelfTraining, labels: Any) -> None:
        if self._reads == "frames":
            raise Collapsed("no more than two phones")
        check(self, labels)

    monkeypatch.setattr(SelfTraining, "_check_variety", collapsing)
    monkeypatch.setattr(rounds, "LEAST_UPDATES", 4)
    work = run(voice, tmp_path / "out", settings(epochs=1))
    assert FrameModel.load(tmp_path / "out").reads == "segments"
    assert work.counts["frame_rounds"] == 0
    assert work.counts["stopped"] == "no more than two phones"


def test_a_generator_of_three_frames_an_output_labels_each_of_them(
    voice: MergedSegments, tmp_path: Path
) -> None:
    """The second version of the method, which has no segments."""
    planted = voice.planted
    segments = write_segments(tmp_path / "segments", planted)
    n_phones = len(PhoneText(voice.text).phones)
    start = Generator(planted.dim, n_phones, kernel=3, stride=3, dropout=0.0, hidden=32)
    train = [i for i, split in enumerate(planted.splits) if split == "train"]
    distil(
        start,
        planted,
        train,
        [np.eye(n_phones, dtype=np.float32)[planted.labels(i)] for i in train],
        np.arange(n_phones),
        DeciphermentConfig(generator_least_updates=150),
        seed=0,
        folder=tmp_path,
    )
    strided = replace(
        voice, segments=segments, matching=write_matching(tmp_path / "matching", start)
    )
    work = run(strided, tmp_path / "out", settings())
    before, found = (FrameModel.load(tmp_path / "out" / name) for name in ("start", "."))
    assert (before.stride, found.stride, found.reads) == (3, 1, "segments")
    assert (work.counts["rounds"], work.counts["frame_rounds"]) == (0, 2)
    assert strided.error_rate(found) < 0.7 * strided.error_rate(before)


def test_what_a_model_reads_must_be_there(voice: MergedSegments, tmp_path: Path) -> None:
    assert open_inputs("frames", voice.segments, voice.features).dim == 8
    with pytest.raises(UserError, match="nowhere"):
        open_inputs("frames", voice.segments, tmp_path / "nowhere")
    others = tmp_path / "others"
    others.mkdir()
    with FrameStoreWriter(others, dim=8, frame_rate_hz=50.0, encoder="none") as writer:
        frames, times = np.zeros((4, 8), np.float32), np.zeros(4, np.float32)
        writer.append("else", frames, times, audio="", split="train", speaker=None)
    with pytest.raises(UserError, match="run the segments stage again"):
        open_inputs("frames", voice.segments, others)
    with pytest.raises(UserError, match=SEGMENTER_NAME):
        unpooled_frames(tmp_path / "nowhere", voice.features)
