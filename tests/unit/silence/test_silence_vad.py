"""Detectors: planted pauses are found, windows leave no trace, bad input does no harm."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from wav2vec_u.config import SilenceConfig
from wav2vec_u.corpus.audio import AudioError, read_audio
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.silence.vad import Rvad, Silero, find_speech, load_vad, speech_mask

SPANS = [(1.0, 3.0), (5.0, 8.0), (9.5, 10.5), (14.0, 18.0)]
CORPORA = Path(__file__).resolve().parents[4] / "shared" / "corpora"


def truth(seconds: float, spans) -> np.ndarray:
    mask = np.zeros(round(seconds * 100), dtype=bool)
    for start, end in spans:
        mask[round(start * 100) : round(end * 100)] = True
    return mask


@pytest.mark.parametrize("noise", [5e-4, 0.0])
def test_planted_pauses_are_found(voice, noise: float) -> None:
    path = voice.write(f"planted-{noise}.wav", voice.make(20.0, SPANS, noise))
    spans = find_speech(path, Rvad(0.4), SilenceConfig(margin_seconds=0.0))
    assert len(spans) == len(SPANS)
    np.testing.assert_allclose(np.array(spans), np.array(SPANS), atol=0.35)
    mask, seconds = speech_mask(path, Rvad(0.4), 60.0)
    assert seconds == 20.0
    assert (mask == truth(20.0, SPANS)).mean() > 0.93


def test_weak_ends_of_words_are_kept(voice) -> None:
    # A fricative of 0.25 s behind a loud syllable, 26 dB below it and 20 dB above the noise.
    sound = voice.make(6.0, [(1.0, 2.0), (3.5, 4.5)])
    hiss = 5e-3 * np.random.default_rng(2).standard_normal(4_000).astype(np.float32)
    for moment in (2.0, 4.5):
        sound[round(moment * 16_000) :][:4_000] += hiss
    path = voice.write("weak.wav", sound)

    def lost(margin: float) -> float:
        spans = find_speech(path, Rvad(0.4), SilenceConfig(margin_seconds=margin))
        moments = np.concatenate([np.arange(2.0, 2.25, 0.01), np.arange(4.5, 4.75, 0.01)])
        return float(np.mean([not any(a <= t < b for a, b in spans) for t in moments]))

    assert lost(0.0) > 0.3  # what the detector alone does with them
    assert lost(SilenceConfig().margin_seconds) == 0.0


@pytest.mark.parametrize("gain", [1.0, 0.3, 0.01, 0.001])
def test_quiet_recordings_are_found_like_loud_ones(voice, gain: float) -> None:
    # rVAD alone drops everything below a fixed energy: nothing is left at gain 0.01.
    sound = voice.make(20.0, SPANS)
    loud, _ = speech_mask(voice.write("loud.wav", sound), Rvad(0.4), 60.0)
    quiet, _ = speech_mask(voice.write(f"gain-{gain}.wav", sound * gain), Rvad(0.4), 60.0)
    assert (loud == quiet).mean() > 0.98


def test_noise_is_no_speech_however_loud(voice) -> None:
    noise = np.random.default_rng(1).standard_normal(160_000).astype(np.float32)
    for gain in (0.1, 1e-4):
        path = voice.write(f"noise-{gain}.wav", noise * gain)
        assert find_speech(path, Rvad(0.4), SilenceConfig()) == []


def long_spans(seconds: float) -> list[tuple[float, float]]:
    # Pauses of 0.8 to 1.8 s at places that no window falls into step with.
    spans, moment = [], 0.4
    for number in range(10_000):
        length = 1.7 + 0.37 * (number % 5)
        if moment + length > seconds:
            return spans
        spans.append((round(moment, 2), round(moment + length, 2)))
        moment += length + 0.8 + 0.25 * (number % 5)
    return spans


def test_windows_leave_no_trace(voice) -> None:
    spans = long_spans(100.0)
    path = voice.write("windows.wav", voice.make(100.0, spans))
    whole, _ = speech_mask(path, Rvad(0.4), 1000.0)
    for window_s in (7.0, 10.003, 33.0):
        windowed, seconds = speech_mask(path, Rvad(0.4), window_s)
        assert seconds == 100.0
        assert windowed.shape == whole.shape
        assert (windowed != whole).sum() <= 8  # of 10,000; without context 12 to 16


class Recorder:
    """Calls loud samples speech, and notes how much it was given at a time."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def decide(self, samples: np.ndarray) -> np.ndarray:
        self.lengths.append(len(samples))
        padded = np.pad(samples, (0, -len(samples) % 160))
        return np.abs(padded).reshape(-1, 160).max(axis=1) > 0.5


@pytest.mark.parametrize("seconds", [0.004, 3.0, 10.0, 10.01, 20.005, 47.3])
def test_every_frame_is_decided_once_and_in_its_place(voice, seconds: float) -> None:
    samples = np.where(np.random.default_rng(2).random(round(seconds * 16_000)) < 2e-3, 0.9, 0.0)
    path = voice.write(f"places-{seconds}.wav", samples.astype(np.float32))
    recorder = Recorder()
    mask, duration = speech_mask(path, recorder, 10.0)
    assert duration == len(samples) / 16_000
    np.testing.assert_array_equal(mask, Recorder().decide(samples))
    assert max(recorder.lengths) <= 12 * 16_000


def test_twenty_minutes_are_seen_in_bounded_windows(voice) -> None:
    # 8 kHz keeps the file small; three hours differ by the number of windows alone.
    path = voice.write("long.wav", np.full(20 * 60 * 8_000, 0.2, np.float32), rate=8_000)
    recorder = Recorder()
    mask, seconds = speech_mask(path, recorder, 60.0)
    assert seconds == pytest.approx(1200.0)
    assert len(mask) == 120_000
    assert len(recorder.lengths) == 20
    assert max(recorder.lengths) == 62 * 16_000


@pytest.mark.parametrize("make", [Rvad, Silero])
@pytest.mark.parametrize("count", [0, 1, 100, 160, 400, 401, 560, 561, 799, 800, 801, 2_000])
def test_short_clips_get_an_answer(make, count: int) -> None:
    if make is Silero:
        pytest.importorskip("silero_vad")
    samples = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    assert make(0.4).decide(samples).shape == (-(-count // 160),)


@pytest.mark.filterwarnings("error")
def test_digital_silence_is_silence_without_warnings(voice) -> None:
    assert not Rvad(0.4).decide(np.zeros(160_000, np.float32)).any()
    assert find_speech(voice.write("zero.wav", np.zeros(80_000)), Rvad(0.4), SilenceConfig()) == []
    sound = voice.make(20.0, SPANS)
    sound[5 * 16_000 : 14 * 16_000] = 0.0  # whole blocks of rVAD's, of two seconds, are zero
    assert Rvad(0.4).decide(sound)[1450:1750].mean() > 0.9


def test_everything_counts_where_no_detector_is_asked_for(voice) -> None:
    path = voice.write("none.wav", np.zeros(12_345))
    config = SilenceConfig(method="none")
    assert load_vad(config) is None
    assert find_speech(path, load_vad(config), config) == [(0.0, 12_345 / 16_000)]


def test_a_lost_file_is_an_audio_error(tmp_path: Path) -> None:
    for config in (SilenceConfig(), SilenceConfig(method="none")):
        with pytest.raises(AudioError, match="missing"):
            find_speech(tmp_path / "gone.wav", load_vad(config), config)


def test_silero_finds_planted_pauses_and_leaves_the_threads_alone(voice) -> None:
    pytest.importorskip("silero_vad")
    sys.modules.pop("silero_vad.model", None)  # so that its import runs again
    sys.modules.pop("silero_vad", None)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        vad = load_vad(SilenceConfig(method="silero", threshold=0.3))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert vad is not None
    sound = voice.make(20.0, SPANS)
    decided = vad.decide(sound)
    assert decided.shape == (2_000,)
    assert not decided[~truth(20.0, [(max(0, a - 0.6), b + 0.6) for a, b in SPANS])].any()


def test_silero_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name == "silero_vad":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"wav2vec-u\[silero\]"):
        load_vad(SilenceConfig(method="silero"))


@pytest.mark.corpora
@pytest.mark.skipif(not CORPORA.is_dir(), reason="no real recordings beside the checkout")
@pytest.mark.parametrize("method", ["rvad", "silero"])
def test_real_recordings_are_mostly_speech(method: str) -> None:
    if method == "silero":
        pytest.importorskip("silero_vad")
    config = SilenceConfig(method=method)
    vad = load_vad(config)
    shares = []
    for path in sorted((CORPORA / "rhasspy_kathleen_en" / "audio").glob("*.opus"))[:10]:
        mask, _ = speech_mask(path, vad, 60.0)
        shares.append(mask.mean())
    assert 0.6 < np.mean(shares) < 1.0


@pytest.mark.corpora
@pytest.mark.skipif(not CORPORA.is_dir(), reason="no real recordings beside the checkout")
@pytest.mark.parametrize("corpus", ["rhasspy_kathleen_en", "rhasspy_kerstin_de"])
def test_what_is_cut_out_of_real_recordings_is_no_speech(corpus: str) -> None:
    # Both voices were recorded without noise: what is 30 dB above the quietest frames is speech.
    config = SilenceConfig()
    vad = load_vad(config)
    cut = loud = 0
    for path in sorted((CORPORA / corpus / "audio").glob("*.opus"))[:400:20]:
        samples = read_audio(path)
        frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
        levels = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
        kept = np.zeros(len(levels), dtype=bool)
        for start, end in find_speech(path, vad, config):
            kept[round(start * 100) : round(end * 100)] = True
        cut += int((levels > np.percentile(levels, 2) + 30)[~kept].sum())
        loud += int((levels > np.percentile(levels, 2) + 30).sum())
    assert cut < 0.005 * loud
