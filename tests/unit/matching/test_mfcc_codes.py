"""Clusters of the sound of segments: planted tones come back, whatever the segments are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from planted_run import write_text_artifact

from wav2vec_u.config import SAMPLE_RATE, DeciphermentConfig, GanConfig, MatchingConfig
from wav2vec_u.matching import mfcc_codes, stage
from wav2vec_u.matching.generator import load_generator
from wav2vec_u.matching.mfcc_codes import (
    CODES_NAME,
    MfccCodes,
    Recordings,
    mean_over_times,
    write_mfcc_codes,
)
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStore, SegmentStoreWriter
from wav2vec_u.silence.speech import Utterance, write_speech
from wav2vec_u.testing.language import make_language

TONES = (300.0, 900.0, 2700.0)  # Hz
FRAME_S = 0.02
FRAMES_A_TONE = 10


def planted(folder: Path, order: list[list[int]], lost: int | None = None) -> Recordings:
    """Recordings of tones, a pause before each, cut into one segment a tone; one may be lost."""
    rng = np.random.default_rng(0)
    utterances = []
    (folder / "segments").mkdir(parents=True)
    (folder / "silence").mkdir()
    with SegmentStoreWriter(folder / "segments", 2, 1 / FRAME_S) as writer:
        for number, tones in enumerate(order):
            time = np.arange(round(FRAMES_A_TONE * FRAME_S * SAMPLE_RATE)) / SAMPLE_RATE
            said = [0.3 * np.sin(2 * np.pi * TONES[tone] * time) for tone in tones]
            pause = np.zeros(SAMPLE_RATE // 2)
            samples = np.concatenate([pause, *said])
            samples += 1e-3 * rng.standard_normal(len(samples))
            audio = folder / f"{number}.wav"
            soundfile.write(audio, samples, SAMPLE_RATE)
            if number == lost:
                audio.unlink()
            seconds = len(tones) * FRAMES_A_TONE * FRAME_S
            speech = (0.5, 0.5 + seconds)
            utterances.append(
                Utterance(f"u{number}", f"u{number}", str(audio), "train", None, *speech, (speech,))
            )
            bounds = np.arange(len(tones) + 1) * FRAMES_A_TONE
            segments = Segments(
                rng.standard_normal((len(tones), 2)).astype(np.float32),
                np.zeros(len(tones), np.int32),
                np.stack([bounds[:-1], bounds[1:]], 1).astype(np.int32),
            )
            times = 0.5 + FRAME_S * np.arange(bounds[-1])
            writer.append(
                f"u{number}", segments, times.astype(np.float32), split="train", speaker=None
            )
    write_speech(folder / "silence", utterances)
    return Recordings(folder / "silence", "cut")


ORDER = [[0, 1, 2, 0, 1], [2, 2, 1, 0], [1, 0, 2], [0, 2, 1, 1, 0]]


@pytest.mark.parametrize("mode", ["cut", "mask"])
def test_the_same_tone_has_the_same_code(tmp_path: Path, mode: str) -> None:
    recordings = planted(tmp_path, ORDER)
    store = SegmentStore(tmp_path / "segments")
    recordings = Recordings(recordings.speech, mode)  # type: ignore[arg-type]
    codes = write_mfcc_codes(tmp_path, recordings, store, n_codes=3, seed=0)
    pairs = {
        (tone, int(code))
        for i, tones in enumerate(ORDER)
        for tone, code in zip(tones, codes(i), strict=True)
    }
    assert len(pairs) == len({code for _, code in pairs}) == 3
    again = MfccCodes(tmp_path, store)
    assert all(np.array_equal(again(i), codes(i)) for i in range(len(ORDER)))
    assert [path.name for path in tmp_path.glob("mfcc*")] == [CODES_NAME]


def test_audio_that_is_gone_has_no_codes_and_the_others_do(tmp_path: Path) -> None:
    recordings = planted(tmp_path, ORDER, lost=1)
    store = SegmentStore(tmp_path / "segments")
    codes = write_mfcc_codes(tmp_path, recordings, store, n_codes=3, seed=0)
    assert codes(1).tolist() == [-1] * 4
    assert {int(code) for i in (0, 2, 3) for code in codes(i)} == {0, 1, 2}


def test_means_over_times() -> None:
    frames = np.array([[1.0], [2.0], [4.0], [8.0]], np.float32)
    times = np.array([0.0, 0.01, 0.02, 1.0], np.float32)  # centres 12.5 ms later; a pause was cut
    segments = np.array([[0.0, 0.03], [0.03, 0.04], [0.4, 0.5], [1.0, 1.02]], np.float32)
    found = mean_over_times(frames, times, segments)
    assert found[:, 0].tolist() == [1.5, 4.0, 4.0, 8.0]  # third: none inside, the nearest one


def test_the_stage_tells_them_and_clusters_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = planted(tmp_path, ORDER * 3)
    text = write_text_artifact(tmp_path / "text", make_language(1), 50)
    config = MatchingConfig(
        method="gan",
        seeds=1,
        device="cpu",
        gan=GanConfig(
            generator_residual=True,
            auxiliary=0.5,
            auxiliary_codes=3,
            batch_size=4,
            discriminator_dim=8,
            updates=4,
            checkpoint_every=2,
            log_every=2,
            score_utterances=4,
            reviews=(),
        ),
        decipherment=DeciphermentConfig(codes=4, min_phone_share=0.0),
    )
    folder = tmp_path / "matching"
    folder.mkdir()
    stage.run(Work(folder), config, tmp_path / "segments", text, None, recordings)
    log = (folder / "member_00/log.jsonl").read_text()
    assert "generator_auxiliary" in log
    assert load_generator(folder / "generator.safetensors").residual is not None
    monkeypatch.setattr(mfcc_codes, "_write_means", lambda *_: pytest.fail("was clustered"))
    stage.run(Work(folder, resumed=True), config, tmp_path / "segments", text, None, recordings)
