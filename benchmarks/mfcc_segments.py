"""Speed of MFCC features and segments, ours against a straightforward version, in times real time.

Both start from the same synthetic waveforms and do the same work at the default settings: MFCC
frames, k-means and PCA learned from all of them, a duration-penalised path, averaged and projected
segments. The baseline computes one frame at a time with NumPy and SciPy, takes k-means and PCA
from scikit-learn, and is spared the search for the penalty, which it takes from ours.

    python benchmarks/mfcc_segments.py [--minutes M] [--threads N]
"""

from __future__ import annotations

import argparse
import itertools
import json
import time

import numpy as np
import scipy.fft
import scipy.signal
import sklearn.cluster
import sklearn.decomposition
import torch
from threadpoolctl import threadpool_limits

from wav2vec_u.config import SAMPLE_RATE, FeaturesConfig, SegmentsConfig
from wav2vec_u.features.encoder import load_encoder
from wav2vec_u.segments.segmenter import Segmenter

UTTERANCE_SECONDS = 6
PHONE_SAMPLES = 1_280  # 80 ms


class Frames:
    """Encoded utterances as a frame source."""

    def __init__(self, utterances: list[np.ndarray], frame_rate_hz: float) -> None:
        self._utterances = utterances
        self.splits = ["train"] * len(utterances)
        self.frame_rate_hz = frame_rate_hz

    def __len__(self) -> int:
        return len(self._utterances)

    def frames(self, i: int) -> np.ndarray:
        return self._utterances[i]


def synthetic_speech(seconds: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Noise through forty two-formant resonators in turn: frames that cluster as phones do."""
    formants = rng.uniform((250, 900), (800, 3_000), size=(40, 2))
    filters = [scipy.signal.iirpeak(hertz, Q=8, fs=SAMPLE_RATE) for hertz in formants.ravel()]
    utterances = []
    for _ in range(seconds // UTTERANCE_SECONDS):
        pieces = []
        for phone in rng.integers(40, size=UTTERANCE_SECONDS * SAMPLE_RATE // PHONE_SAMPLES):
            noise = rng.normal(size=PHONE_SAMPLES)
            low, high = (scipy.signal.lfilter(*filters[2 * phone + n], noise) for n in (0, 1))
            pieces.append(low + 0.5 * high + 0.01 * noise)
        utterances.append(np.concatenate(pieces).astype(np.float32))
    return utterances


def ours(waveforms: list[np.ndarray]) -> tuple[float, int]:
    """Return the penalty that was found and the number of segments."""
    encoder = load_encoder(FeaturesConfig(encoder="mfcc"))
    source = Frames([encoder.encode([wave])[0] for wave in waveforms], encoder.frame_rate_hz)
    segmenter = Segmenter(SegmentsConfig(boundaries="viterbi")).fit(source)
    n_segments = sum(len(segmenter.transform(source.frames(i))) for i in range(len(source)))
    return segmenter.penalty_, n_segments


def mel_filters() -> np.ndarray:
    """Return 26 triangular filters over 257 bins."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127 * np.log1p(np.asarray(hertz) / 700)

    corners = np.linspace(mel(20.0), mel(SAMPLE_RATE / 2), 28)
    bins = mel(np.fft.rfftfreq(512, 1 / SAMPLE_RATE))
    filters = [
        np.clip(np.minimum((bins - a) / (b - a), (c - bins) / (c - b)), 0, None)
        for a, b, c in zip(corners, corners[1:], corners[2:], strict=False)
    ]
    return np.stack(filters)


def baseline_mfcc(wave: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Compute 39-dimensional MFCC frame by frame, normalised over the utterance."""
    emphasised = np.append(wave[0], wave[1:] - 0.97 * wave[:-1])
    window = np.hamming(400)
    rows = []
    for start in range(0, len(wave) - 399, 160):
        power = np.abs(np.fft.rfft(emphasised[start : start + 400] * window, 512)) ** 2
        rows.append(scipy.fft.dct(np.log(filters @ power + 1e-10), norm="ortho")[:13])
    cepstra = np.array(rows)
    first = np.gradient(cepstra, axis=0)
    frames = np.concatenate([cepstra, first, np.gradient(first, axis=0)], axis=1)
    return ((frames - frames.mean(0)) / frames.std(0)).astype(np.float32)


def baseline_path(distances: np.ndarray, penalty: float) -> np.ndarray:
    """Find the penalised path with one NumPy step a frame."""
    cost = distances[0].copy()
    changed, origins = [], []
    for row in distances[1:]:
        origin = int(cost.argmin())
        change = cost[origin] + penalty
        changed.append(change < cost)
        origins.append(origin)
        cost = np.minimum(cost, change) + row
    path = [int(cost.argmin())]
    for change, origin in zip(reversed(changed), reversed(origins), strict=True):
        path.append(origin if change[path[-1]] else path[-1])
    return np.array(path[::-1])


def baseline(waveforms: list[np.ndarray], penalty: float) -> int:
    """Return the number of segments."""
    config = SegmentsConfig(boundaries="viterbi")
    filters = mel_filters()
    utterances = [baseline_mfcc(wave, filters) for wave in waveforms]
    frames = np.concatenate(utterances)
    kmeans = sklearn.cluster.KMeans(
        config.clusters,
        n_init=config.kmeans_restarts,
        max_iter=config.kmeans_iterations,
        random_state=0,
    ).fit(frames)
    pca = sklearn.decomposition.PCA(min(config.pca_dim, frames.shape[1])).fit(frames)
    n_segments = 0
    for utterance in utterances:
        path = baseline_path(kmeans.transform(utterance) ** 2, penalty)
        edges = np.concatenate([[0], np.flatnonzero(np.diff(path)) + 1, [len(path)]])
        means = [utterance[a:b].mean(0) for a, b in itertools.pairwise(edges)]
        n_segments += len(pca.transform(np.stack(means)))
    return n_segments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=10, help="synthetic audio")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    waveforms = synthetic_speech(60 * arguments.minutes, np.random.default_rng(0))
    seconds = sum(len(wave) for wave in waveforms) / SAMPLE_RATE
    with threadpool_limits(arguments.threads):
        ours(waveforms[:3])  # compiles, and fills the cache of compiled loops
        started = time.perf_counter()
        penalty, n_ours = ours(waveforms)
        ours_seconds = time.perf_counter() - started
        started = time.perf_counter()
        n_baseline = baseline(waveforms, penalty)
        baseline_seconds = time.perf_counter() - started

    print(f"ours:     {ours_seconds:.2f} s, {n_ours / seconds:.1f} segments a second")
    print(f"baseline: {baseline_seconds:.2f} s, {n_baseline / seconds:.1f} segments a second")
    print(
        json.dumps(
            {
                "name": "mfcc_segments",
                "value": round(seconds / ours_seconds, 1),
                "unit": "times real time",
                "baseline": round(seconds / baseline_seconds, 1),
                "ratio": round(baseline_seconds / ours_seconds, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
