"""Decoding: formats, rates, stretches, windows, and every way a file can be bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wav2vec_u.corpus.audio import AudioError, iter_audio, iter_blocks, probe_audio, read_audio


def tone(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype("f4")


def reason_of(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.opus", "a.aiff", "a.au"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_every_format_gives_back_the_tone(files, name: str, rate: int) -> None:
    path = files.write(name, tone(2.0, rate), rate)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(32_000, abs=1)
    middle = slice(8_000, 24_000)  # lossy codecs fade in and out
    truth = tone(2.0, 16_000)
    assert np.corrcoef(samples[middle], truth[middle])[0, 1] > 0.99
    assert probe_audio(path).seconds == pytest.approx(2.0, abs=1e-3)


def test_stereo_is_mixed_down(files) -> None:
    left, right = tone(1.0, 16_000), tone(1.0, 16_000, hz=900)
    path = files.write("stereo.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), (left + right) / 2, atol=1e-6)
    assert probe_audio(path).channels == 2


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_streamed_resampling_equals_resampling_at_once(files, rate: int) -> None:
    samples = files.noise(9.0, rate)
    path = files.write("a.wav", samples, rate, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), soxr.resample(samples, rate, 16_000), atol=1e-6)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate=st.sampled_from([8_000, 11_025, 16_000, 44_100]),
    stretch=st.tuples(st.floats(0, 6.2), st.floats(0, 6.2)),
    window_s=st.floats(0.01, 8.0),
)
def test_a_stretch_holds_the_samples_of_the_whole(files, rate, stretch, window_s) -> None:
    path = files.folder / f"{rate}.wav"
    if not path.exists():
        files.write(path.name, files.noise(6.0, rate), rate, subtype="FLOAT")
    whole = read_audio(path)
    start_s, end_s = sorted(stretch)
    windows = list(iter_audio(path, window_s, start_s, end_s))
    expected = whole[round(start_s * 16_000) : round(end_s * 16_000)]
    got = np.concatenate([*windows, np.empty(0, np.float32)])
    assert len(got) == len(expected)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert all(len(window) == round(window_s * 16_000) for window in windows[:-1])
    assert all(len(window) for window in windows)


@pytest.mark.parametrize("name", ["a.opus", "a.ogg", "a.mp3", "a.flac"])
@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("seconds", [3.0, 22.0])
def test_seeking_in_compressed_files_is_exact(files, name: str, rate: int, seconds: float) -> None:
    # A tone gives MP3 and Vorbis the longest memory and pages.
    whole = read_audio(files.write(name, tone(seconds, rate), rate))
    for start in np.array([0.1, 0.41, 0.73, 0.98]) * seconds:
        stretch = read_audio(files.folder / name, start, start + 0.8)
        expected = whole[round(start * 16_000) : round((start + 0.8) * 16_000)]
        np.testing.assert_allclose(stretch, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["a.opus", "a.ogg", "a.mp3", "a.flac", "a.wav"])
@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_blocks_join_without_a_seam(files, name: str, rate: int) -> None:
    # soundfile's own reading in blocks disturbs MP3 decoders at every border between blocks.
    path = files.write(name, tone(200_000 / rate, rate), rate)
    blocks = list(iter_blocks(path))
    assert len(blocks) > 2
    np.testing.assert_allclose(np.concatenate(blocks), soundfile.read(path)[0], atol=1e-4)


def test_a_stretch_behind_the_end_is_empty(files) -> None:
    assert len(read_audio(files.write("a.wav", files.noise(1.0)), 5.0, 6.0)) == 0


def test_windows_do_not_keep_the_file_in_memory(files) -> None:
    path = files.write("a.wav", files.noise(30.0))
    for window in iter_audio(path, 0.5):
        owner = window if window.base is None else window.base
        assert owner.nbytes <= 4 * (65_536 + 8_000)


def test_missing(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "nothing.wav") == "missing"


def test_no_bytes(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    assert reason_of(path) == "empty"


def test_header_without_samples(files) -> None:
    assert reason_of(files.write("empty.wav", np.zeros(0, np.float32))) == "empty"


@pytest.mark.parametrize("content", [b"these are words\n" * 100, bytes(range(256)) * 20, b"RIFF"])
def test_text_or_rubbish_named_wav(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.wav"
    path.write_bytes(content)
    assert reason_of(path) == "not_audio"


def test_a_folder_named_wav(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    assert reason_of(tmp_path / "folder.wav") == "not_audio"


def test_permission(files, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write("a.wav", files.noise(1.0))

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    def cannot_open(*args: object, **kwargs: object) -> None:
        raise soundfile.LibsndfileError(2)  # what libsndfile says, whatever the system's reason

    # The tests may run as root, who may read everything.
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("wav2vec_u.corpus.audio._Sequential", cannot_open)
    assert reason_of(path) == "permission"


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.aiff", "a.au"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated(files, name: str, share: float) -> None:
    path = files.cut_off(files.write(name, files.noise(10.0)), share)
    assert reason_of(path) == "truncated"


def test_a_length_that_a_pipe_could_not_know_is_no_truncation(files) -> None:
    path = files.write("a.wav", files.noise(1.0))
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read_audio(path)) == 16_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 79_999, 159_999])
def test_samples_that_are_no_numbers(files, bad: float, where: int) -> None:
    samples = files.noise(10.0)
    samples[where] = bad
    assert reason_of(files.write("a.wav", samples, subtype="FLOAT")) == "nan"


def test_ten_milliseconds_are_still_samples(files) -> None:
    assert len(read_audio(files.write("a.wav", files.noise(0.01)))) == 160
    assert len(read_audio(files.write("b.wav", files.noise(0.01, 8_000), 8_000))) == 160


def test_blocks_are_bounded(files) -> None:
    path = files.write("long.wav", files.noise(30.0))
    blocks = list(iter_blocks(path))
    assert max(len(block) for block in blocks) <= 65_536
    assert sum(len(block) for block in blocks) == 480_000
