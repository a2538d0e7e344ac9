"""Claim: members that train side by side find a planted language, every time.

For every seed a language is made up, with its own text, and speech in which every phone is a random
vector, said over one or more segments, with noise. Members are trained without labels, one is
chosen without labels, and labels tell how good it is, how good the best one would have been, and
what the paper's three steps would have chosen.

    python benchmarks/gan_convergence.py [--noise 0.3] [--repeats 0.3] [--seeds 10] [--members 4]
        [--start decipherment]

With a start, every second member begins from the best of three decipherments, whose time counts.

The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from scipy.spatial.distance import cdist

from wav2vec_u.config import DeciphermentConfig, GanConfig, MatchingConfig
from wav2vec_u.matching.batches import training_utterances
from wav2vec_u.matching.channel import Channel
from wav2vec_u.matching.decipherment import learn_language
from wav2vec_u.matching.gan.train import train_gan
from wav2vec_u.matching.generator import Generator, log_probs
from wav2vec_u.matching.readings import Reading, decipher
from wav2vec_u.matching.selection import select, spoken_phones
from wav2vec_u.segments.kmeans import KMeans
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import Planted, plant
from wav2vec_u.text.ngram import NgramModel

CONVERGED = 25.0  # percent above the labels of the nearest true vectors


def main() -> None:
    """Run the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.3, help="deviation in every dimension")
    parser.add_argument("--repeats", type=float, default=0.3, help="that a phone goes on")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", choices=("nothing", "decipherment"), default="nothing")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of matching.gan")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    given = dict(item.split("=", 1) for item in args.set)
    gan = GanConfig(**(SETTINGS | {key: yaml.safe_load(value) for key, value in given.items()}))
    rows = []
    for seed in range(args.seeds):
        config = MatchingConfig(seeds=args.members, seed=seed, device="cpu", gan=gan)
        planted = plant(
            make_language(seed, n_consonants=12, n_vowels=5),
            noise=args.noise,
            repeats=args.repeats,
            seed=seed,
        )
        rows.append(find(planted, config, args.threads, args.start == "decipherment"))
        print(json.dumps({"seed": seed, **rows[-1]}), flush=True)
    chosen = [row["chosen"] for row in rows]
    print(
        json.dumps(
            {
                "name": "gan_convergence",
                "value": round(statistics.median(chosen), 2),
                "unit": "PER of the chosen member, median over seeds",
                "worst": max(chosen),
                "taught": round(statistics.median(row["taught"] for row in rows), 2),
                "converged": sum(row["chosen"] < row["taught"] + CONVERGED for row in rows),
                "seeds": len(rows),
                "members_converged": sum(row["converged"] for row in rows),
                "members": sum(len(row["members"]) for row in rows),
                "regret": round(statistics.mean(r["chosen"] - r["best"] for r in rows), 2),
                "regret_of_paper": round(statistics.mean(r["paper"] - r["best"] for r in rows), 2),
                "seconds": round(statistics.median(row["seconds"] for row in rows), 1),
            }
        )
    )


READINGS = 3
DECIPHERMENT = DeciphermentConfig(codes=60)  # 18 phones in some ten thousand segments

SETTINGS: dict[str, Any] = {
    # A segment's phone does not depend on its neighbours; batches and networks are small, and
    # learn at higher rates than the reference's.
    "generator_kernel": 1,
    "generator_dropout": 0.0,
    "discriminator_dim": 64,
    "batch_size": 48,
    "generator_lr": 0.01,
    "discriminator_lr": 0.002,
    "updates": 1_000,
    "reviews": (0.5,),
    "checkpoint_every": 100,
    "score_utterances": 100,
}


def find(
    planted: Planted, config: MatchingConfig, threads: int, deciphered: bool = False
) -> dict[str, Any]:
    """Train and choose without labels; look at the labels afterwards."""
    sentences = [planted.text.sentence(i) for i in range(len(planted.text))]
    model = NgramModel(4).fit(sentences, planted.text.phones)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        start = None
        if deciphered:
            found = readings(Path(folder) / "start", planted, config, threads)
            start = max(found, key=lambda reading: reading.gain).generator.state_dict()
        codes = vector_codes(planted, config) if any(config.gan.auxiliary) else None
        results = train_gan(
            Path(folder),
            planted.segments,
            planted.text,
            config,
            dev_lm=model,
            start=start,
            codes=codes,
        )
    channel = Channel(
        planted.segments,
        training_utterances(planted.segments),
        learn_language(planted.text, 0.0),
        n_codes=config.decipherment.codes,
        stay=config.decipherment.stay_probability,
        seed=config.seed,
        threads=threads,
    )
    gains = [channel.gain(result.generator) for result in results]
    seconds = time.perf_counter() - began
    rates = [error_rate(planted, label_by(result.generator)) for result in results]
    by_paper = select([result.score for result in results if result.score is not None])
    taught = error_rate(planted, label_by_vectors(planted))
    return {
        "chosen": rates[int(np.argmax(gains))],
        "paper": rates[by_paper],
        "best": min(rates),
        "taught": taught,
        "converged": sum(rate < taught + CONVERGED for rate in rates),
        "members": rates,
        "gains": [round(gain, 3) for gain in gains],
        "seconds": round(seconds, 1),
    }


def readings(folder: Path, planted: Planted, config: MatchingConfig, threads: int) -> list[Reading]:
    """Decipher several times, with generators that the GAN can start from."""
    return decipher(
        folder,
        planted.segments,
        planted.text,
        config.model_copy(update={"seeds": READINGS, "decipherment": DECIPHERMENT}),
        architecture={"kernel": config.gan.generator_kernel, "batch_norm": 0.0, "dropout": 0.0},
        resume=False,
        threads=threads,
    )


def vector_codes(planted: Planted, config: MatchingConfig) -> Callable[[int], NDArray[np.integer]]:
    """Cluster the vectors: there is no audio here whose MFCC could be."""
    segments = planted.segments
    kmeans = KMeans(n_clusters=config.gan.auxiliary_codes, seed=config.seed).fit(
        lambda: (segments.vectors(i) for i in training_utterances(segments))
    )
    return lambda i: kmeans.predict(segments.vectors(i))


def error_rate(
    planted: Planted, label: Callable[[NDArray[np.float32]], NDArray[np.integer]]
) -> float:
    """Phone error rate on the held-out utterances, percent."""
    errors = phones = 0
    for i, split in enumerate(planted.segments.splits):
        if split == "test":
            said = spoken_phones(label(planted.segments.vectors(i)))
            truth = planted.segments.truth(i)
            errors += Levenshtein.distance(said.tolist(), truth.tolist())
            phones += len(truth)
    return round(100 * errors / phones, 2)


def label_by(generator: Generator) -> Callable[[NDArray[np.float32]], NDArray[np.integer]]:
    """Label segments as a generator does."""
    return lambda vectors: log_probs(generator, vectors).argmax(1)


def label_by_vectors(planted: Planted) -> Callable[[NDArray[np.float32]], NDArray[np.integer]]:
    """Label segments by the nearest true vector, which no learning can beat by much."""
    return lambda vectors: cdist(vectors, planted.centres).argmin(1)


if __name__ == "__main__":
    main()
