"""The demo's voice and recordings; without espeak-ng there is nothing to ask."""

from __future__ import annotations

import gzip
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speaking import say

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.demo import recordings
from wav2vec_u.demo.recordings import (
    RecordingsConfig,
    make_recordings,
    spoken_text,
    unpaired_text,
)
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.synthesis.voice import EspeakVoice

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeak-ng is not installed: pip install 'wav2vec-u[text]'",
)
SHORT = RecordingsConfig(train_minutes=0.1, test_minutes=0.05)


def written() -> list[str]:
    return gzip.decompress(unpaired_text().read_bytes()).decode("utf-8").splitlines()


def letters(line: str) -> str:
    return "".join(letter for letter in line.lower() if letter.isalpha())


def test_the_texts_share_no_line_even_where_spelt_otherwise() -> None:
    spoken = {letters(line) for line in spoken_text()}
    unpaired = {letters(line) for line in written()}
    assert len(spoken) > 500
    assert len(unpaired) > 5_000
    assert not spoken & unpaired
    assert "" not in spoken


def rows(manifest: Path) -> list[dict[str, str]]:
    header, *lines = manifest.read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("demo") / "recordings", SHORT)


@needs_espeak
def test_the_manifest_has_both_splits_of_about_the_wanted_lengths(manifest: Path) -> None:
    found = rows(manifest)
    assert [row["text"] for row in found] == spoken_text()[: len(found)]
    splits = [row["split"] for row in found]
    assert splits == sorted(splits, reverse=True)  # train, then test
    for split, seconds in (("train", 6.0), ("test", 3.0)):
        lengths = [float(row["seconds"]) for row in found if row["split"] == split]
        assert seconds - 0.01 <= sum(lengths) < seconds + lengths[-1]  # to the sentence's end


@needs_espeak
def test_the_recordings_are_audible_speech_of_the_stated_length(manifest: Path) -> None:
    found = rows(manifest)
    for row in found:
        info = soundfile.info(manifest.parent / row["path"])
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        samples, _ = soundfile.read(manifest.parent / row["path"], dtype="float32")
        assert len(samples) / SAMPLE_RATE == pytest.approx(float(row["seconds"]), abs=0.006)
        assert 0.05 < np.abs(samples).max() <= 1
        # Between 5 and 30 letters a second, as people speak.
        assert 5 < len(letters(row["text"])) / float(row["seconds"]) < 30
    names = [row["path"] for row in found]
    assert sorted(path.name for path in (manifest.parent / "audio").iterdir()) == [
        Path(name).name for name in names
    ]


@needs_espeak
def test_recordings_are_made_once_and_anew_when_something_changed(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recordings"
    first = make_recordings(folder, SHORT)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}

    with monkeypatch.context() as patch:
        patch.setattr(recordings, "EspeakVoice", None)  # speaking would fail
        assert make_recordings(folder, SHORT) == first
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")} == before

    lost = next(iter(before))
    lost.unlink()
    make_recordings(folder, SHORT)
    assert lost.exists()
    slower = SHORT.model_copy(update={"words_per_minute": 80})
    make_recordings(folder, slower)
    said = rows(first)[0]
    assert float(said["seconds"]) > 1.3 * float(rows(manifest)[0]["seconds"])


@needs_espeak
def test_an_unknown_voice_is_said_and_spoils_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no voice named xx-nobody"):
        EspeakVoice("xx-nobody")
    with pytest.raises(UserError, match="no voice named xx-nobody"):
        make_recordings(tmp_path / "r", SHORT.model_copy(update={"voice": "xx-nobody"}))
    assert not (tmp_path / "r").exists()
    assert len(say("de", ["Guten Tag"])[0].samples) > 5_000


@needs_espeak
def test_the_voice_says_every_sentence_alone_and_nothing_for_nothing() -> None:
    texts = ["In the beginning.", "And it came to pass.", "In the beginning.", ""]
    first, other, again, nothing = (speech.samples for speech in say("en-us", texts))
    assert first.dtype == np.int16
    assert len(other) > 1.2 * len(first)
    assert len(again) == pytest.approx(len(first), rel=0.02)
    assert len(nothing) < 0.1 * len(first)
    (faster,) = (speech.samples for speech in say("en-us", texts[:1], words_per_minute=320))
    assert len(faster) < 0.8 * len(first)


@needs_espeak
def test_a_fresh_process_says_the_same_to_the_last_bit() -> None:
    script = (
        "import hashlib; from wav2vec_u.synthesis.voice import EspeakVoice; voice = EspeakVoice();"
        "lines = ('In the beginning.', 'It was so.');"
        "said = [voice.speak(line).samples.tobytes() for line in lines];"
        "print(len(said[1]), hashlib.sha256(b''.join(said)).hexdigest())"
    )
    first, again = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
        for _ in range(2)
    )
    assert first.stdout == again.stdout
    assert int(first.stdout.split()[0]) > 5_000


def test_without_espeak_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"pip install 'wav2vec-u\[text\]'"):
        EspeakVoice()


@needs_espeak
@pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="needs a folder that refuses this user",
)
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="cannot be written"):
            make_recordings(tmp_path / "r", SHORT)
    finally:
        tmp_path.chmod(0o700)
