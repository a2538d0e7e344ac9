"""Utterances from recordings, and their waveforms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wav2vec_u.config import SilenceConfig
from wav2vec_u.corpus.audio import read_audio
from wav2vec_u.corpus.manifest import Recording, write_recordings
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.silence import stage
from wav2vec_u.silence.spans import frame_is_speech, speech_seconds
from wav2vec_u.silence.speech import Utterance, load_waveform, read_speech, write_speech


@pytest.fixture
def work(tmp_path: Path) -> Work:
    (tmp_path / "work").mkdir()
    return Work(tmp_path / "work")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def recording(path: Path, seconds: float, split: str = "train") -> Recording:
    return Recording(path.stem, str(path), seconds, split, "anna")


def ramp_utterance(voice, spans) -> Utterance:
    # Every sample says where it comes from: its own index, kept exactly by float32 files.
    path = voice.write("ramp.wav", np.arange(40 * 16_000, dtype=np.float32))
    return Utterance("u", "r", str(path), "train", None, spans[0][0], spans[-1][1], tuple(spans))


def test_speech_is_found_and_bad_recordings_are_listed(voice, work: Work, corpus: Path) -> None:
    spoken = voice.write("odd 'name' 🎤.wav", voice.make(6.0, [(1.0, 2.5), (4.0, 5.5)]))
    silent = voice.write("hiss.wav", voice.make(3.0, []))
    blip = voice.write("blip.wav", np.full(160, 0.5, np.float32))
    lost = voice.folder / "lost.wav"
    write_recordings(
        corpus,
        [
            recording(spoken, 6.0, "test"),
            recording(silent, 3.0),
            recording(blip, 0.01),
            recording(lost, 1.0),
        ],
    )
    stage.run(work, SilenceConfig(margin_seconds=0.0), corpus)
    (utterance,) = read_speech(work.folder)
    assert utterance.id == utterance.recording == "odd 'name' 🎤"
    assert (utterance.split, utterance.speaker, utterance.audio) == ("test", "anna", str(spoken))
    np.testing.assert_allclose(np.array(utterance.spans), [(1.0, 2.5), (4.0, 5.5)], atol=0.35)
    assert (utterance.start_s, utterance.end_s) == (
        utterance.spans[0][0],
        utterance.spans[-1][1],
    )
    rows = {row["what"]: row["reason"] for row in read_jsonl(work.folder / "rejected.jsonl")}
    assert rows == {"hiss": "no_speech", "blip": "no_speech", "lost": "missing"}
    assert work.counts["utterances"] == 1
    assert work.counts["hours"] == pytest.approx(speech_seconds(utterance.spans) / 3600)
    assert work.counts["speech_share"] == pytest.approx(
        speech_seconds(utterance.spans) / (6.0 + 3.0 + 0.01)
    )
    assert work.counts["rejected"] == {"no_speech": 2, "missing": 1}
    json.dumps(work.counts)


@pytest.mark.parametrize("mode", ["cut", "mask"])
def test_long_recordings_become_utterances(voice, work: Work, corpus: Path, mode: str) -> None:
    spans = [(start, start + 3.0) for start in np.arange(0.5, 56.0, 4.0)]
    path = voice.write("long.wav", voice.make(60.0, spans))
    write_recordings(corpus, [recording(path, 60.0)])
    config = SilenceConfig(max_utterance_seconds=10.0, mode=mode, window_seconds=20.0)
    stage.run(work, config, corpus)
    utterances = read_speech(work.folder)
    assert len(utterances) >= 4
    assert [item.id for item in utterances] == [
        f"long#{number:03d}" for number in range(1, len(utterances) + 1)
    ]
    assert {item.recording for item in utterances} == {"long"}
    assert work.counts["recordings_split"] == 1
    for item in utterances:
        samples, times = load_waveform(item, mode)
        assert len(samples) / 16_000 <= 10.0 + 1e-3
        assert times.trimmed_seconds == pytest.approx(len(samples) / 16_000, abs=1e-3)
    ends = [item.end_s for item in utterances[:-1]]
    starts = [item.start_s for item in utterances[1:]]
    assert all(end < start for end, start in zip(ends, starts, strict=True))  # cut at pauses


def test_cut_puts_spans_one_behind_the_other(voice) -> None:
    spans = [(1.0, 2.0), (5.00003, 5.5), (33.0, 39.9999)]
    samples, times = load_waveform(ramp_utterance(voice, spans), "cut")
    kept = [np.arange(round(a * 16_000), round(b * 16_000)) for a, b in spans]
    np.testing.assert_array_equal(samples, np.concatenate(kept))
    original = times.to_original(np.arange(len(samples)) / 16_000)
    np.testing.assert_allclose(original * 16_000, samples, atol=1e-2)


def test_mask_keeps_the_stretch_and_its_pauses_can_be_dropped(voice) -> None:
    spans = [(1.0, 2.0), (5.0, 5.5)]
    utterance = ramp_utterance(voice, spans)
    samples, times = load_waveform(utterance, "mask")
    np.testing.assert_array_equal(samples, np.arange(16_000, 88_000))
    original = times.to_original(np.arange(len(samples)) / 16_000)
    np.testing.assert_allclose(original * 16_000, samples, atol=1e-2)
    speaks = frame_is_speech(original, utterance.spans)
    cut, _ = load_waveform(utterance, "cut")
    assert speaks.sum() == pytest.approx(len(cut), abs=2)


def test_cut_and_mask_agree_where_the_file_is_resampled(voice) -> None:
    sound = np.random.default_rng(0).standard_normal(8_000 * 10).astype(np.float32)
    path = voice.write("8k.wav", sound, rate=8_000)
    spans = ((2.0, 3.0), (7.0, 8.0))
    utterance = Utterance("u", "r", str(path), "train", None, 2.0, 8.0, spans)
    whole = read_audio(path)
    cut, _ = load_waveform(utterance, "cut")
    expected = np.concatenate([whole[32_000:48_000], whole[112_000:128_000]])
    np.testing.assert_allclose(cut, expected, atol=1e-4)


def test_pauses_of_an_utterance_are_not_kept_in_memory(voice) -> None:
    utterance = ramp_utterance(voice, [(0.5, 1.0), (38.0, 38.5)])
    samples, _ = load_waveform(utterance, "cut")
    assert samples.base is None
    assert samples.nbytes == 16_000 * 4


def test_speech_round_trip(tmp_path: Path) -> None:
    utterances = [
        Utterance('a "b"#001', 'a "b"', "/x.wav", "train", None, 0.5, 2.25, ((0.5, 1.0), (2, 2.25)))
    ]
    write_speech(tmp_path, iter(utterances))
    assert read_speech(tmp_path) == utterances


def test_speech_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the silence stage first"):
        read_speech(tmp_path)
    for damaged in ("{half", '{"id": "a"}\n', '{"spans": [[1]]}\n'):
        (tmp_path / "speech.jsonl").write_text(damaged)
        with pytest.raises(UserError, match="is damaged"):
            read_speech(tmp_path)


def test_no_speech_at_all_is_one_clear_line(voice, work: Work, corpus: Path) -> None:
    write_recordings(corpus, [recording(voice.write("quiet.wav", voice.make(2.0, [])), 2.0)])
    with pytest.raises(UserError) as caught:
        stage.run(work, SilenceConfig(), corpus)
    assert "1 no_speech" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert work.counts["rejected"] == {"no_speech": 1}


def test_without_detection_recordings_come_whole(voice, work: Work, corpus: Path) -> None:
    path = voice.write("whole.wav", voice.make(4.0, [(1.0, 2.0)]))
    write_recordings(corpus, [recording(path, 4.0)])
    stage.run(work, SilenceConfig(method="none"), corpus)
    (utterance,) = read_speech(work.folder)
    assert utterance.spans == ((0.0, 4.0),)
    samples, _ = load_waveform(utterance, "cut")
    np.testing.assert_array_equal(samples, read_audio(path))
    assert work.counts["speech_share"] == 1.0
