"""Claim: features and segments take no more memory for a large corpus than for a small one.

The same minute of synthetic speech stands for a corpus of any length. Each size runs in a process
of its own, whose peak resident memory the operating system reports; the last line printed is one
JSON object: the peak at the larger size, the peak at the smaller one as baseline, their ratio.

    python benchmarks/memory_flat.py [--baseline-hours 1] [--hours 10]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

UTTERANCES_IN_MINUTE = 6
SECONDS = 10.0  # of an utterance


def main() -> None:
    """Measure both sizes and print the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline-hours", type=float, default=1.0)
    parser.add_argument("--hours", type=float, default=10.0)
    # Given to the processes that this one starts: run both stages in a folder and print the peak.
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure, arguments.hours)))
        return
    baseline = in_own_process(arguments.baseline_hours)
    found = in_own_process(arguments.hours)
    peak, small = max(found.values()), max(baseline.values())
    print(
        json.dumps(
            {
                "name": f"peak_rss_features_segments_{arguments.hours:g}h_over_"
                f"{arguments.baseline_hours:g}h",
                "value": peak,
                "unit": "MiB",
                "baseline": small,
                "ratio": round(peak / small, 3),
            }
        )
    )


def in_own_process(hours: float) -> dict[str, float]:
    """Run the stages over so many hours; return the peak in MiB after each stage."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--measure", folder, "--hours", str(hours)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    peaks: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    figures = ", ".join(f"{stage} {peak:.0f} MiB" for stage, peak in peaks.items())
    print(f"{hours:g} h: {figures}", flush=True)
    return peaks


def measure(folder: Path, hours: float) -> dict[str, float]:
    """Run both stages in this process; return its peak in MiB after each."""
    # Imported here: what the parent holds when it starts a process counts in that one's peak.
    import wav2vec_u.features.stage as features_stage
    import wav2vec_u.segments.stage as segments_stage
    from wav2vec_u.config import FeaturesConfig, SegmentsConfig
    from wav2vec_u.runtime.artifact import Work
    from wav2vec_u.runtime.memory import peak_rss_mb
    from wav2vec_u.silence.speech import Utterance, write_speech

    works = {name: folder / name for name in ("audio", "speech", "features", "segments")}
    for path in works.values():
        path.mkdir()
    write_minute(works["audio"])

    def utterances() -> Iterator[Utterance]:
        for i in range(max(1, round(hours * 3600 / SECONDS))):
            audio = str(works["audio"] / f"{i % UTTERANCES_IN_MINUTE}.wav")
            name = f"recording/{i:08d}"
            yield Utterance(name, name, audio, "train", None, 0.0, SECONDS, ((0.0, SECONDS),))

    write_speech(works["speech"], utterances())
    peaks = {}
    features_stage.run(Work(works["features"]), FeaturesConfig(encoder="mfcc"), works["speech"])
    peaks["features"] = peak_rss_mb()
    # Few rounds of k-means: more of them take time and no memory.
    config = SegmentsConfig(
        boundaries="viterbi", clusters=32, kmeans_iterations=2, kmeans_restarts=1
    )
    segments_stage.run(Work(works["segments"]), config, works["features"])
    peaks["segments"] = peak_rss_mb()
    return {stage: round(peak, 1) for stage, peak in peaks.items()}


def write_minute(folder: Path) -> None:
    """Write noise with a resonance that wanders: many spectra, as speech has."""
    import numpy as np
    import scipy.signal
    import soundfile

    rate = 16_000
    rng = np.random.default_rng(0)
    for i in range(UTTERANCES_IN_MINUTE):
        pieces = []
        for _ in range(int(SECONDS * 10)):  # a new resonance every 100 ms
            angle = 2 * np.pi * rng.uniform(200, 4000) / rate
            resonance = [1.0, -1.9 * np.cos(angle), 0.9025]
            pieces.append(scipy.signal.lfilter([1.0], resonance, rng.standard_normal(rate // 10)))
        samples = 0.02 * np.concatenate(pieces)
        soundfile.write(folder / f"{i}.wav", np.clip(samples, -1, 1), rate, subtype="PCM_16")


if __name__ == "__main__":
    main()
