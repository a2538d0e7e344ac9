"""Speed of voice activity detection, decoding included, as times real time on one core.

Makes ten minutes of voice-like sound with pauses, writes it as 16 kHz FLAC, and runs rVAD as the
silence stage does. The baseline is Silero on the same file, or the target of 100 times real time
where Silero is not installed. The last line is one JSON object.

    python benchmarks/vad.py
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from wav2vec_u.config import SAMPLE_RATE, SilenceConfig
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.memory import peak_rss_mb
from wav2vec_u.silence.spans import speech_seconds
from wav2vec_u.silence.vad import Vad, find_speech, load_vad

SECONDS = 600
PART_SECONDS = 60  # the sound repeats, so that making it takes little memory
TARGET = 100.0  # times real time


def make_sound(seconds: int) -> np.ndarray:
    """Two seconds of harmonics under a moving level, one second of hiss, and again: (n,)."""
    times = np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * times)) / SAMPLE_RATE
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 20))
    level = (times % 3 < 2) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * times))
    hiss = 5e-4 * np.random.default_rng(0).standard_normal(len(times))
    return (0.1 * voice * level + hiss).astype(np.float32)


def times_real_time(path: Path, seconds: int, vad: Vad, config: SilenceConfig) -> float:
    """Seconds of sound for each second of processor time, best of three runs."""
    spent = []
    for _ in range(3):
        started = time.process_time()  # of all threads: cores are not counted for nothing
        spans = find_speech(path, vad, config)
        spent.append(time.process_time() - started)
    print(
        f"{config.method}: {seconds / min(spent):.0f} x real time, "
        f"{speech_seconds(spans) / seconds:.2f} of it speech"
    )
    return seconds / min(spent)


def baseline(folder: Path) -> float:
    """Times real time of Silero; the target where it is not installed."""
    config = SilenceConfig(method="silero")
    try:
        vad = load_vad(config)
    except UserError as error:
        print(f"{error}; the baseline is the target")
        return TARGET
    assert vad is not None
    path = folder / "short.flac"
    soundfile.write(path, make_sound(PART_SECONDS), SAMPLE_RATE)
    return times_real_time(path, PART_SECONDS, vad, config)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "long.flac"
        part = make_sound(PART_SECONDS)
        with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
            for _ in range(SECONDS // PART_SECONDS):
                file.write(part)
        config = SilenceConfig()
        vad = load_vad(config)
        assert vad is not None
        before = peak_rss_mb()
        value = times_real_time(path, SECONDS, vad, config)
        print(f"peak memory: {before:.0f} MiB before, {peak_rss_mb():.0f} MiB after")
        reference = baseline(Path(name))
    result = {
        "name": "vad",
        "value": round(value, 1),
        "unit": "times real time per core",
        "baseline": round(reference, 1),
        "ratio": round(value / reference, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
