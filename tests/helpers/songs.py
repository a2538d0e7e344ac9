"""Speech of a made-up alphabet: every letter is a tone of its own, the space is a pause."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from wav2vec_u.config import SAMPLE_RATE, FinetuneConfig, NetworkConfig
from wav2vec_u.encoder.checkpoint import save_encoder
from wav2vec_u.encoder.network import SpeechNetwork

LETTERS = "abcde"
TONES_HZ = dict(zip(LETTERS, (300, 700, 1300, 2300, 4000), strict=True))
SMALL_NETWORK = NetworkConfig(
    dim=32, blocks=2, heads=2, feed_forward_dim=64, position_kernel=8, position_groups=4
)
SHORT = FinetuneConfig(
    updates=250,
    batch_seconds=10.0,
    learning_rate=1e-2,
    linear_learning_rate=1e-2,
    freeze_updates=20,
    layer_drop=0.0,
    time_mask_share=0.1,
    channel_mask_share=0.1,
    validate_every=50,
    device="cpu",
)


def sing(text: str, rng: np.random.Generator) -> np.ndarray:
    """Return a waveform of 0.15 to 0.25 s a letter, with a little noise."""
    samples, _ = sing_timed(text, rng)
    return samples


def sing_timed(
    text: str, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Return a waveform as `sing` does, and every letter with its start and end, seconds."""
    pieces = [np.zeros(1_600)]
    sung = []
    for letter in text:
        times = np.arange(rng.integers(2_400, 4_000)) / SAMPLE_RATE
        tone = np.sin(2 * np.pi * TONES_HZ[letter] * times) if letter in TONES_HZ else 0 * times
        start = sum(map(len, pieces)) / SAMPLE_RATE
        sung.append((letter, start, start + len(times) / SAMPLE_RATE))
        pieces.append(0.3 * tone)
    samples = np.concatenate([*pieces, np.zeros(1_600)])
    noisy = (samples + 0.003 * rng.standard_normal(len(samples))).astype(np.float32)
    return noisy, [item for item in sung if item[0] in TONES_HZ]


def words(rng: np.random.Generator) -> str:
    """Return two or three words of one to four different letters."""
    drawn = ["".join(rng.permutation(list(LETTERS))[: rng.integers(1, 5)]) for _ in range(3)]
    return " ".join(drawn[: rng.integers(2, 4)])


def write_songs(folder: Path, n_train: int = 60, n_test: int = 12, seed: int = 0) -> Path:
    """Write recordings and ``manifest.tsv``; return its path."""
    rng = np.random.default_rng(seed)
    lines = ["path\tspeaker\tseconds\tsplit\ttext"]
    for number in range(n_train + n_test):
        text = words(rng)
        samples = sing(text, rng)
        name = f"{number:03d}.wav"
        soundfile.write(folder / name, samples, SAMPLE_RATE)
        split = "train" if number < n_train else "test"
        lines.append(f"{name}\ts\t{len(samples) / SAMPLE_RATE:.2f}\t{split}\t{text.upper()}!")
    manifest = folder / "manifest.tsv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def write_encoder(folder: Path, config: NetworkConfig = SMALL_NETWORK) -> Path:
    """Save an untrained encoder of our own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_encoder(folder, SpeechNetwork(config), {"made": "for a test"})
    return folder
