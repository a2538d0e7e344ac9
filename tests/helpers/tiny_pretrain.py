"""Networks of a few thousand weights, and speech of tones to pre-train them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch

from wav2vec_u.config import NetworkConfig, PretrainConfig, TargetRound
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.pretrain.pack import AudioPack, write_pack
from wav2vec_u.silence.speech import Utterance

RATE = 16_000
TONES_HZ = (300, 700, 1_500, 3_200)
TINY = NetworkConfig(dim=16, blocks=2, heads=2, feed_forward_dim=32, mel_bands=20)
WAVES = NetworkConfig(
    front_end="waveform",
    context="transformer",
    conv_channels=8,
    dim=16,
    blocks=2,
    heads=2,
    feed_forward_dim=32,
    mel_bands=20,
    position_kernel=8,
    position_groups=4,
)


def tiny_network(config: NetworkConfig = TINY, seed: int = 0) -> SpeechNetwork:
    """An untrained network in evaluation mode, whose blocks visibly change their input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SpeechNetwork(config)
        for parameter in network.context.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def tiny_pretraining(**changed: Any) -> PretrainConfig:
    """Settings under which a round takes a fraction of a second."""
    settings: dict[str, Any] = {
        "network": TINY,
        "rounds": (TargetRound(targets="mfcc", clusters=4, updates=8),),
        "batch_seconds": 4.0,
        "max_seconds": 2.0,
        "learning_rate": 3e-3,
        "log_every": 4,
        "validate_every": 8,
        "checkpoint_every": 4,
        "device": "cpu",
        **changed,
    }
    return PretrainConfig(**settings)


def sing_tones(rng: np.random.Generator, tones: int) -> tuple[npt.NDArray[np.float32], list[int]]:
    """Return so many tones of 0.4 s with a little noise, and which they are; no two alike meet."""
    which = [int(rng.integers(len(TONES_HZ)))]
    while len(which) < tones:
        step = int(rng.integers(1, len(TONES_HZ)))
        which.append((which[-1] + step) % len(TONES_HZ))
    times = np.arange(int(0.4 * RATE)) / RATE
    samples = np.concatenate([0.3 * np.sin(2 * np.pi * TONES_HZ[tone] * times) for tone in which])
    return (samples + 0.003 * rng.standard_normal(len(samples))).astype(np.float32), which


def write_tones(folder: Path, count: int) -> tuple[list[Utterance], list[list[int]]]:
    """Write ``u00.wav``, ... of two to five tones; return the utterances, and their tones."""
    rng = np.random.default_rng(5)
    utterances, spoken = [], []
    for number in range(count):
        samples, which = sing_tones(rng, int(rng.integers(2, 6)))
        path = folder / f"u{number:02d}.wav"
        soundfile.write(path, samples, RATE)
        utterances.append(utterance_of(path, len(samples) / RATE))
        spoken.append(which)
    return utterances, spoken


def utterance_of(path: Path, seconds: float) -> Utterance:
    """A whole recording as one utterance."""
    return Utterance(
        path.stem, path.stem, str(path), "train", None, 0.0, seconds, ((0.0, seconds),)
    )


def pack_tones(folder: Path, count: int = 24) -> tuple[AudioPack, list[list[int]]]:
    """Pack tones; return the pack, and the tones of each utterance."""
    utterances, spoken = write_tones(folder, count)
    rejected = write_pack(folder, utterances, min_samples=1_000, workers=1)
    assert rejected == []
    return AudioPack(folder), spoken
