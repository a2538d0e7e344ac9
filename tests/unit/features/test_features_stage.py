"""The features stage on real files: right frames, right times, nothing lost, resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from wav2vec_u.config import FeaturesConfig
from wav2vec_u.features import stage
from wav2vec_u.features.mfcc import mfcc
from wav2vec_u.features.store import FrameStore, FrameStoreWriter
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.silence.speech import Utterance, load_waveform, write_speech
from wav2vec_u.testing.encoders import save_tiny_encoder

RATE = 16_000
FILES = ("frames.npy", "times.npy", "index.jsonl", "rejected.jsonl", "meta.json")
Spans = tuple[tuple[float, float], ...]


class Corpus:
    """Recordings of noise whose level and colour differ, with planted spans of speech."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.utterances: list[Utterance] = []
        (folder / "speech").mkdir()
        (folder / "work").mkdir()

    def add(self, name: str, spans: Spans, speaker: str | None = None, seconds: float = 4) -> Path:
        rng = np.random.default_rng(len(self.utterances))
        samples = (0.02 + 0.3 * rng.random()) * rng.standard_normal(int(seconds * RATE))
        path = self.folder / f"{name}.wav"
        soundfile.write(path, np.clip(samples, -1, 1), RATE, subtype="FLOAT")
        self.utterances.append(
            Utterance(name, name, str(path), "train", speaker, spans[0][0], spans[-1][1], spans)
        )
        return path

    def run(self, config: FeaturesConfig, mode: Any = "cut", resumed: bool = False) -> Work:
        write_speech(self.folder / "speech", self.utterances)
        work = Work(self.folder / "work", resumed=resumed)
        stage.run(work, config, self.folder / "speech", mode)
        return work

    def rejected(self) -> dict[str, str]:
        lines = (self.folder / "work" / "rejected.jsonl").read_text().splitlines()
        return {line["what"]: line["reason"] for line in map(json.loads, lines)}

    def by_id(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        store = FrameStore(self.folder / "work")
        return {name: (store.frames(i), store.times(i)) for i, name in enumerate(store.ids)}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


RAW = FeaturesConfig(encoder="mfcc", mfcc_cepstra=13, mfcc_deltas=True, mfcc_normalize="none")


def half(frames: np.ndarray) -> np.ndarray:
    return frames.astype(np.float16).astype(np.float32)


def test_cut_frames_are_of_the_speech_alone_with_original_times(corpus: Corpus) -> None:
    corpus.add("a", ((0.5, 1.0), (2.0, 3.0)))
    work = corpus.run(RAW)
    frames, times = corpus.by_id()["a"]
    samples, _ = load_waveform(corpus.utterances[0], "cut")
    np.testing.assert_array_equal(frames, half(mfcc(samples, 13, deltas=True)))
    assert len(frames) == 148
    # 0.5 s lie before the seam: frames 0..49 start there, the others in the second span.
    expected = np.concatenate([0.5 + np.arange(50) / 100, 2.0 + np.arange(98) / 100])
    np.testing.assert_allclose(times, expected, atol=1e-4)
    assert work.counts == {
        "utterances": 1,
        "frames": 148,
        "frame_rate_hz": 100.0,
        "dim": 39,
        "speech_seconds": 1.48,
        "rejected": {},
    }


def test_masked_frames_are_those_of_the_whole_stretch_in_speech(corpus: Corpus) -> None:
    corpus.add("a", ((0.5, 1.0), (2.0, 3.0)))
    corpus.run(RAW, "mask")
    frames, times = corpus.by_id()["a"]
    samples, _ = load_waveform(corpus.utterances[0], "mask")
    starts = 0.5 + np.arange(248) / 100
    centres = starts + 0.0125
    kept = (centres < 1.0) | ((centres >= 2.0) & (centres < 3.0))
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_allclose(times, starts[kept], atol=1e-4)
    np.testing.assert_array_equal(frames, half(mfcc(samples, 13, deltas=True))[kept])


@pytest.mark.parametrize("mode", ["cut", "mask"])
def test_each_utterance_is_normalised_over_its_kept_frames(corpus: Corpus, mode: str) -> None:
    corpus.add("a", ((0.5, 1.0), (2.0, 3.0)))
    corpus.add("b", ((0.0, 3.0),))
    corpus.run(FeaturesConfig(encoder="mfcc", mfcc_normalize="utterance"), mode)
    for frames, _ in corpus.by_id().values():
        np.testing.assert_allclose(frames.mean(axis=0), 0, atol=2e-3)
        np.testing.assert_allclose(frames.std(axis=0), 1, atol=2e-3)


@pytest.mark.parametrize("mode", ["cut", "mask"])
def test_each_speaker_is_normalised_over_all_utterances(corpus: Corpus, mode: str) -> None:
    for name, speaker in (("a", "x"), ("b", "y"), ("c", "x"), ("d", None), ("e", None)):
        corpus.add(name, ((0.5, 1.0), (2.0, 3.0)), speaker)
    corpus.run(FeaturesConfig(encoder="mfcc", mfcc_normalize="speaker"), mode)
    frames = {name: value[0] for name, value in corpus.by_id().items()}
    groups = [[frames["a"], frames["c"]], [frames["b"]], [frames["d"]], [frames["e"]]]
    for group in groups:
        joined = np.concatenate(group)
        np.testing.assert_allclose(joined.mean(axis=0), 0, atol=2e-3)
        np.testing.assert_allclose(joined.std(axis=0), 1, atol=2e-3)
    # The two recordings of x have different levels, which must remain.
    assert abs(frames["a"][:, 0].mean() - frames["c"][:, 0].mean()) > 0.1


def test_bad_items_are_listed_and_the_others_kept(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.add("good", ((0.0, 1.0),))
    corpus.add("gone", ((0.0, 1.0),)).unlink()
    corpus.add("short", ((1.0, 1.02),))
    corpus.add("garbled", ((0.0, 1.0),)).write_bytes(b"no sound")
    corpus.add("overflow", ((0.0, 1.0),))
    encode = stage.load_encoder(RAW).__class__.encode

    def overflowing(self: Any, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        frames = encode(self, waveforms)
        level = load_waveform(corpus.utterances[4], "cut")[0]
        for index, waveform in enumerate(waveforms):
            if np.array_equal(waveform, level):
                frames[index][3, 7] = 1e5  # beyond half precision
        return frames

    monkeypatch.setattr("wav2vec_u.features.mfcc.MfccEncoder.encode", overflowing)
    work = corpus.run(RAW)
    assert set(corpus.by_id()) == {"good"}
    reasons = corpus.rejected()
    assert set(reasons) == {"gone", "short", "garbled", "overflow"}
    assert (reasons["gone"], reasons["short"]) == ("missing", "too_short")
    assert reasons["overflow"] == "non_finite"
    assert sum(work.counts["rejected"].values()) == 4


def test_no_frames_at_all_stops_with_the_reasons(corpus: Corpus) -> None:
    corpus.add("gone", ((0.0, 1.0),)).unlink()
    corpus.add("short", ((1.0, 1.02),))
    with pytest.raises(UserError, match=r"no utterance gives frames \(1 \w+, 1 \w+\)"):
        corpus.run(RAW)
    assert set(corpus.rejected()) == {"gone", "short"}


def test_an_empty_corpus_is_a_users_mistake(corpus: Corpus) -> None:
    with pytest.raises(UserError, match="there is no speech"):
        corpus.run(RAW)


class Killed(BaseException):
    """Stands for a signal."""


@pytest.mark.parametrize("encoder", ["mfcc", "wav2vec2-layer"])
@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_killed_run_resumed_equals_an_uninterrupted_one(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, after: int
) -> None:
    lengths: Sequence[float] = (1.0, 0.5, 2.0, 0.02, 1.5, 0.7, 1.1, 0.9, 1.3, 0.6)
    for i, seconds in enumerate(lengths):
        corpus.add(f"u{i}", ((0.3, 0.3 + seconds),), speaker=f"s{i % 2}")
    corpus.utterances[7] = Utterance(
        "u7", "u7", str(tmp_path / "gone.wav"), "test", None, 0.0, 1.0, ((0.0, 1.0),)
    )
    if encoder != "mfcc":
        encoder = str(save_tiny_encoder(tmp_path / "encoder", "wav2vec2-layer"))
    config = FeaturesConfig(
        encoder=encoder, layer=1, batch_seconds=3.0, device="cpu", mfcc_normalize="speaker"
    )
    monkeypatch.setattr(stage, "COMMIT_SECONDS", 0.0)
    corpus.run(config)
    whole = {name: (corpus.folder / "work" / name).read_bytes() for name in FILES}
    for name in FILES:
        (corpus.folder / "work" / name).unlink()

    commit, commits = FrameStoreWriter.commit, 0

    def commit_then_die(self: FrameStoreWriter) -> None:
        nonlocal commits
        commit(self)
        commits += 1
        if commits == after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(FrameStoreWriter, "commit", commit_then_die)
        with pytest.raises(Killed):
            corpus.run(config)
    partial = (corpus.folder / "work" / "index.jsonl").read_bytes()
    assert whole["index.jsonl"].startswith(partial)
    assert partial != whole["index.jsonl"]

    corpus.run(config, resumed=True)
    assert {name: (corpus.folder / "work" / name).read_bytes() for name in FILES} == whole


def test_resuming_reads_no_finished_recording_again(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        corpus.add(name, ((0.0, 1.0),))
    config = FeaturesConfig(encoder="mfcc", mfcc_normalize="none", batch_seconds=1.0)
    corpus.run(config)
    monkeypatch.setattr(
        "wav2vec_u.features.extract.load_waveform", lambda *_: pytest.fail("read again")
    )
    work = corpus.run(config, resumed=True)
    assert work.counts["utterances"] == 4
    assert len(FrameStore(work.folder)) == 4


def test_a_checkpoint_writes_its_name_rate_and_width(corpus: Corpus, tmp_path: Path) -> None:
    corpus.add("a", ((0.5, 1.5), (2.0, 3.0)))
    checkpoint = save_tiny_encoder(tmp_path / "encoder", "hubert", dim=8)
    work = corpus.run(FeaturesConfig(encoder=str(checkpoint), layer=0, device="cpu"))
    store = FrameStore(work.folder)
    assert (store.dim, store.frame_rate_hz) == (8, 50.0)
    assert store.encoder.endswith("encoder layer 0")
    times = store.times(0)
    assert len(times) == 99
    np.testing.assert_allclose(times[:50], 0.5 + np.arange(50) / 50, atol=1e-4)
    np.testing.assert_allclose(times[50:], 2.0 + np.arange(49) / 50, atol=1e-4)
