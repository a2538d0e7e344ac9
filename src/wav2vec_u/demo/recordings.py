"""The demo's recordings: a text spoken by espeak-ng, made anew and not shipped."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import soundfile
import soxr

from wav2vec_u.config import SAMPLE_RATE, Settings
from wav2vec_u.runtime import artifact
from wav2vec_u.runtime.files import write_text
from wav2vec_u.runtime.progress import progress
from wav2vec_u.synthesis.voice import EspeakVoice

MANIFEST = "manifest.tsv"


class RecordingsConfig(Settings):
    """What is spoken, and how."""

    voice: str = "en-us"
    words_per_minute: int = 160
    train_minutes: float = 48.0
    test_minutes: float = 10.0


def spoken_text() -> list[str]:
    """Return text A, one sentence or clause a line: the Acts of the Apostles (ASV, 1901)."""
    return _lines("spoken.txt.gz")


def unpaired_text() -> Path:
    """Return the file of text B: other books, none of the lines of text A."""
    return Path(str(resources.files("wav2vec_u.demo") / "texts" / "unpaired.txt.gz"))


def make_recordings(folder: Path, config: RecordingsConfig) -> Path:
    """Speak text A into wav files, unless that was done before.

    The first lines become split ``train`` and those that follow split ``test``. The transcripts
    stand in the manifest for the evaluation at the end; nothing else reads them.

    Parameters
    ----------
    folder : Path
        Where the recordings are to stand.
    config : RecordingsConfig

    Returns
    -------
    Path
        The manifest.

    Raises
    ------
    UserError
        If espeak-ng is not installed, or the disk is full.
    """
    lines = spoken_text()
    expected = artifact.fingerprint(config=config, lines=lines)
    if artifact.is_current(folder, expected):
        return folder / MANIFEST
    inputs = {"text": artifact.fingerprint(lines=lines)}
    with artifact.create(
        folder, stage="recordings", expected=expected, config=config, inputs=inputs
    ) as work:
        rows = [("path", "speaker", "seconds", "split", "text")]
        rows += _speak(work.folder, lines, config)
        write_text(work.folder / MANIFEST, "".join("\t".join(row) + "\n" for row in rows))
        work.counts.update(recordings=len(rows) - 1)
    return folder / MANIFEST


def _speak(
    folder: Path, lines: list[str], config: RecordingsConfig
) -> Iterator[tuple[str, str, str, str, str]]:
    (folder / "audio").mkdir()
    voice = EspeakVoice(config.voice, config.words_per_minute)
    wanted_s = {"train": 60 * config.train_minutes, "test": 60 * config.test_minutes}
    spoken_s = {"train": 0.0, "test": 0.0}
    for number, line in enumerate(progress(lines, label="speaking", total=len(lines))):
        samples = voice.speak(line).samples.astype(np.float32) / 2**15
        samples = soxr.resample(samples, voice.sample_rate, SAMPLE_RATE)
        seconds = len(samples) / SAMPLE_RATE
        path = Path("audio") / f"{number:05d}.wav"
        soundfile.write(folder / path, samples, SAMPLE_RATE, subtype="PCM_16")
        split = "train" if spoken_s["train"] < wanted_s["train"] else "test"
        yield str(path), config.voice, f"{seconds:.2f}", split, line
        spoken_s[split] += seconds
        if spoken_s["test"] >= wanted_s["test"]:
            return


def _lines(name: str) -> list[str]:
    packed = (resources.files("wav2vec_u.demo") / "texts" / name).read_bytes()
    return gzip.decompress(packed).decode("utf-8").splitlines()
