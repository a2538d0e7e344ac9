"""Claim: an encoder of our own turns speech into frames at 50 times real time or more on two cores.

Ten minutes of synthetic speech in batches of a minute, as the features stage encodes them; MFCC of
the same sound in the same run is the baseline. The last line is one JSON object.

    python benchmarks/encoder.py [--encoder DIR] [--layer N] [--minutes M] [--threads N]

Without `--encoder` it is the encoder that ships, or, in a checkout that has none, an untrained one
of the default shape: speed does not depend on what the weights are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from mfcc_segments import UTTERANCE_SECONDS, synthetic_speech
from wav2vec_u.config import SAMPLE_RATE, FeaturesConfig, NetworkConfig
from wav2vec_u.encoder.checkpoint import is_encoder, load_network, save_encoder
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.encoder.shipped import SHIPPED, find_encoder
from wav2vec_u.features.encoder import Encoder, load_encoder

TARGET = 50.0  # times real time
BATCH_SECONDS = 60
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--layer", type=int, help="default: the one that the encoder recommends")
    parser.add_argument("--minutes", type=int, default=10, help="synthetic audio")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name, threadpool_limits(arguments.threads):
        folder = arguments.encoder or shipped_or_untrained(Path(name) / "untrained")
        config = FeaturesConfig(encoder=str(folder), layer=arguments.layer, device="cpu")
        network = load_network(folder)
        waveforms = synthetic_speech(60 * arguments.minutes, np.random.default_rng(0))
        value = times_real_time(load_encoder(config), waveforms)
        baseline = times_real_time(load_encoder(FeaturesConfig(encoder="mfcc")), waveforms)
    print(
        json.dumps(
            {
                "name": "encoder",
                "encoder": folder.name,
                "parameters": sum(weight.numel() for weight in network.parameters()),
                "value": round(value, 1),
                "unit": f"times real time on {arguments.threads} threads",
                "baseline": round(baseline, 1),
                "ratio": round(value / baseline, 3),
                "target": TARGET,
                "met": value >= TARGET,
            }
        )
    )


def shipped_or_untrained(folder: Path) -> Path:
    """Return the encoder that ships; where there is none, write one into a folder."""
    shipped = find_encoder(SHIPPED)
    if shipped is not None and is_encoder(shipped):
        return shipped
    save_encoder(folder, SpeechNetwork(NetworkConfig()), {"made": "for a measurement of speed"})
    return folder


def times_real_time(encoder: Encoder, waveforms: list[np.ndarray]) -> float:
    """Seconds of sound for each second of work, best of some runs."""
    size = BATCH_SECONDS // UTTERANCE_SECONDS
    batches = [waveforms[at : at + size] for at in range(0, len(waveforms), size)]
    encoder.encode(batches[0])  # the first call also sets up threads and tables
    spent = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for batch in batches:
            encoder.encode(batch)
        spent.append(time.perf_counter() - started)
    speed = sum(len(wave) for wave in waveforms) / SAMPLE_RATE / min(spent)
    print(f"{encoder.name}: {speed:.0f} x real time", flush=True)
    return speed


if __name__ == "__main__":
    main()
