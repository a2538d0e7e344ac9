"""Claim: it is known where each way of matching stops working, by noise and by repeats.

Planted languages without pauses, as a perfect detector of pauses would leave them, are searched by
decipherment (three restarts, the one of the highest likelihood gain), by the GAN with each of its
objectives, and by the GAN that starts from the decipherment. Noise is the deviation in every
dimension, where phones have a deviation of 1; repeats are the probability that a phone goes on.

    python benchmarks/objectives.py --out OUT [--seeds 5] [--ways decipherment ...]
        [--conditions 0.3,0.3 1.5,0.3 ...]

`OUT/rows.jsonl` gets a line a search; what stands there is not done again. The last line printed is
one JSON object.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from gan_ablation import STATISTICS, grid_arguments, without_any_silence
from gan_convergence import (
    CONVERGED,
    SETTINGS,
    error_rate,
    find,
    label_by,
    label_by_vectors,
    readings,
)
from wav2vec_u.config import GanConfig, MatchingConfig
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import Planted, plant

DECIPHERMENT, WARM = "decipherment", "decipherment+gan"
WAYS: dict[str, dict[str, Any]] = {
    DECIPHERMENT: {},
    "gan, paper": {"skipgrams": (0.0,), "positions": (0.0,)},
    "gan, relativistic": {
        "objective": "relativistic",
        "gradient_penalty": (0.05,),
        "skipgrams": (0.0,),
        "positions": (0.0,),
    },
    "gan, skip-grams": {"positions": (0.0,)},
    "gan": {},
    "statistics": STATISTICS,
    WARM: {},
}
CONDITIONS = ("0.3,0.3", "1.0,0.3", "1.5,0.3", "2.0,0.3", "1.0,0.0", "1.0,0.5", "1.0,0.7")


def main() -> None:
    """Run the claim."""
    parser = grid_arguments(__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--conditions", nargs="+", default=CONDITIONS, metavar="NOISE,REPEATS")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "rows.jsonl"
    rows = list(read_jsonl(path)) if path.exists() else []
    done = {(row["way"], row["noise"], row["repeats"], row["seed"]) for row in rows}
    conditions = [tuple(map(float, item.split(","))) for item in args.conditions]
    with path.open("a", encoding="utf-8") as file:
        for seed in range(args.seeds):
            for noise, repeats in conditions:
                for way in args.ways:
                    if (way, noise, repeats, seed) in done:
                        continue
                    found = search(way, noise, repeats, seed, args.members, args.threads)
                    row = {"way": way, "noise": noise, "repeats": repeats, "seed": seed, **found}
                    rows.append(row)
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    print(row, flush=True)
    table = summary(rows)
    for line in table:
        print(line)
    found = sum(line["found"] for line in table if line["way"] == DECIPHERMENT)
    searched = sum(line["seeds"] for line in table if line["way"] == DECIPHERMENT)
    claim = {"name": "objectives", "value": found, "unit": "languages deciphered", "of": searched}
    print(json.dumps({**claim, "table": table}))


def search(
    way: str, noise: float, repeats: float, seed: int, members: int, threads: int
) -> dict[str, Any]:
    """Search one planted language without labels, and look at the labels afterwards."""
    language = make_language(seed, n_consonants=12, n_vowels=5)
    planted = without_any_silence(
        plant(language, noise=noise, repeats=repeats, seed=seed), language
    )
    gan = GanConfig(**(SETTINGS | WAYS[way]))
    config = MatchingConfig(seeds=members, seed=seed, device="cpu", gan=gan)
    if way == DECIPHERMENT:
        return decipher(planted, config, threads)
    found = find(planted, config, threads, deciphered=way == WARM)
    return {key: found[key] for key in ("chosen", "best", "taught", "seconds")}


def decipher(planted: Planted, config: MatchingConfig, threads: int) -> dict[str, Any]:
    """Take the best of some readings by their gain."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = readings(Path(folder), planted, config, threads)
    seconds = time.perf_counter() - began
    rates = [error_rate(planted, label_by(reading.generator)) for reading in found]
    gains = [reading.gain for reading in found]
    return {
        "chosen": rates[gains.index(max(gains))],
        "best": min(rates),
        "taught": error_rate(planted, label_by_vectors(planted)),
        "seconds": round(seconds, 1),
    }


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for every way and condition."""
    keys = dict.fromkeys((row["noise"], row["repeats"], row["way"]) for row in rows)
    table = []
    for key in sorted(keys):
        own = [row for row in rows if (row["noise"], row["repeats"], row["way"]) == key]
        rates = [row["chosen"] for row in own]
        table.append(
            {
                "noise": key[0],
                "repeats": key[1],
                "way": key[2],
                "per": round(statistics.median(rates), 1),
                "worst": round(max(rates), 1),
                "nearest": round(statistics.median(row["taught"] for row in own), 1),
                "found": sum(row["chosen"] < row["taught"] + CONVERGED for row in own),
                "regret": round(statistics.mean(row["chosen"] - row["best"] for row in own), 2),
                "seeds": len(own),
                "seconds": round(statistics.median(row["seconds"] for row in own), 1),
            }
        )
    return table


if __name__ == "__main__":
    main()
