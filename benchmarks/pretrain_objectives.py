"""Claim: from ten hours on a processor, masked prediction learns better frames than contrast does.

Both objectives train the same network from the same random weights on the same recordings for the
same time; then a linear CTC probe reads every block of both, and MFCC beside them. Masks are those
of each method: 120 ms for masked prediction (the default), 200 ms and half of all steps for
wav2vec 2.0's contrastive task.

    python benchmarks/pretrain_objectives.py --audio DIR --references MANIFEST --lang en-us
        --out OUT [--minutes 10] [--threads 1] [--seed 0]

`--audio` may be given repeatedly. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from wav2vec_u.config import PretrainConfig, ProbeConfig, RunConfig, TargetRound
from wav2vec_u.pretrain.stage import ENCODER_NAME, pretrain
from wav2vec_u.pretrain.train import LOG_NAME
from wav2vec_u.probe.stage import run as probe
from wav2vec_u.runtime.files import read_jsonl

TRIAL_UPDATES = 60  # how fast an objective is, before its budget is turned into updates
CLUSTERS = 200
OBJECTIVES: dict[str, dict[str, Any]] = {
    "masked_prediction": {},
    # Steps are 40 ms: spans of five are the paper's 200 ms, and hide the paper's half of all steps.
    "contrastive": {"objective": "contrastive", "mask_probability": 0.13, "mask_length": 5},
}


def main() -> None:
    """Run the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, action="append", required=True)
    parser.add_argument("--references", type=Path, required=True, help="manifest with transcripts")
    parser.add_argument("--lang", required=True, help="espeak voice, such as en-us")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="of updates, each objective")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = {}
    for name in OBJECTIVES:
        encoder, updates = train(name, given)
        config = RunConfig(
            language=given.lang, threads=given.threads, probe=ProbeConfig(label_free=False)
        )
        metrics = probe(given.out / f"probe-{name}", str(encoder), given.references, config).metrics
        rows[name] = {
            "updates": updates,
            "layer": metrics["probe_layer"],
            "per": metrics["probe_per"],
            "per_low": metrics["probe_per_low"],
            "per_high": metrics["probe_per_high"],
            "per_by_layer": metrics["probe_per_by_layer"],
            "per_mfcc": metrics["probe_per_mfcc"],
        }
        print(name, rows[name], flush=True)
    value, baseline = rows["masked_prediction"]["per"], rows["contrastive"]["per"]
    claim = {"name": "pretrain_objectives", "value": value, "unit": "PER, %", "baseline": baseline}
    print(json.dumps({**claim, "ratio": value / baseline, "objectives": rows}))


def train(name: str, given: argparse.Namespace) -> tuple[Path, int]:
    """Train for the time that is given; return the encoder's folder, and the updates."""
    encoder = given.out / name
    if encoder.exists():
        return encoder, updates_of(encoder)
    pretrain(given.audio, given.out, settings(name, TRIAL_UPDATES, given))
    *_, speed = (
        line["updates_per_second"]
        for line in read_jsonl(given.out / "round-1" / LOG_NAME)
        if "updates_per_second" in line
    )
    pretrain(given.audio, given.out, settings(name, int(60 * given.minutes * speed), given))
    shutil.copytree(given.out / ENCODER_NAME, encoder)
    return encoder, updates_of(encoder)


def settings(name: str, updates: int, given: argparse.Namespace) -> RunConfig:
    """Return the settings of an objective, the defaults of `pretrain` wherever there are any."""
    rounds = (TargetRound(targets="mfcc", clusters=CLUSTERS, updates=updates),)
    return RunConfig(
        threads=given.threads,
        pretrain=PretrainConfig(
            rounds=rounds, seed=given.seed, device="cpu", log_every=20, **OBJECTIVES[name]
        ),
    )


def updates_of(encoder: Path) -> int:
    """Return how many updates made an encoder."""
    description = json.loads((encoder / "encoder.json").read_text(encoding="utf-8"))
    return int(description["info"]["updates"])


if __name__ == "__main__":
    main()
