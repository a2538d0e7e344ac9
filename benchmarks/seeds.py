"""Claim: a run finds the language whatever its seed, and chooses a good restart.

Repeats the stages after text and segments with several seeds, in one folder, and sets what the run
knows without labels beside the error rates on the held-out split: of every restart's generator (its
arg-max), of the chosen one after every step, and of the same generator with labels. Regret is how
far the chosen restart is from the best one by label.

    python benchmarks/seeds.py --out OUT [--seeds 5] [--set KEY=VALUE]            the demo
    python benchmarks/seeds.py --out OUT --config configs/kathleen.yaml \
        --audio MANIFEST --text TEXT --set graph.method=none ...                  a voice

`OUT/seeds.jsonl` gets a line a seed; a seed that stands there is not run again. The last line
printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from restarts import error_rate, pronounced
from wav2vec_u.cli import parse_settings, set_value
from wav2vec_u.config import RunConfig, load_config
from wav2vec_u.demo.recordings import RecordingsConfig, make_recordings, unpaired_text
from wav2vec_u.matching.generator import GENERATOR_NAME, load_generator
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.runtime.files import read_jsonl, write_jsonl

DEMO = Path(__file__).parents[1] / "configs" / "demo.yaml"
STEPS = ("greedy", "lm", "hmm", "words", "encoder")  # see `evaluate.steps`
CONVERGED = 25.0  # points above the ceiling; what failed stands at 60 and more


def main() -> None:
    """Run the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--config", type=Path, default=DEMO, help="default: that of the demo")
    parser.add_argument("--audio", type=Path, help="manifest with transcripts; default: the demo's")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE")
    args = parser.parse_args()
    overrides = parse_settings(args.set)
    if args.audio is None:
        audio, text = make_recordings(args.out / "recordings", RecordingsConfig()), unpaired_text()
    else:
        audio, text = args.audio, args.text

    lines = args.out / "seeds.jsonl"
    rows = list(read_jsonl(lines)) if lines.exists() else []
    for seed in range(len(rows), args.seeds):
        for stage in ("matching", "selftrain"):
            set_value(overrides, f"{stage}.seed", seed)
        rows.append(run(load_config(args.config, **overrides), audio, text, args.out / "run", seed))
        write_jsonl(lines, rows)
        print(json.dumps(rows[-1]), flush=True)
    print(json.dumps(summary(rows)))


def run(config: RunConfig, audio: Path, text: Path, out: Path, seed: int) -> dict[str, Any]:
    """Run one seed, and return its figures."""
    started = time.monotonic()
    metrics = Pipeline(config, audio, text, config.language, out, console=Console()).run()
    seconds = time.monotonic() - started
    selection = json.loads((out / "matching" / "selection.json").read_text(encoding="utf-8"))
    references = pronounced(out, audio, config.language)
    members = {}
    for row in selection["members"]:
        member = row["member"]
        place = out / "matching" / f"member_{member:02d}"
        # A start from synthetic speech keeps a generator for every round, the last one in the end.
        kept = [place / GENERATOR_NAME, *sorted(place.glob(f"round_*/{GENERATOR_NAME}"))]
        generator = load_generator([path for path in kept if path.exists()][-1])
        rate = error_rate(out, generator, references)
        members[member] = {"per": round(rate, 2), "gain": row.get("likelihood_gain")}
    rates = {member: row["per"] for member, row in members.items()}
    chosen, best = rates[selection["selected"]], min(rates.values())
    return {
        "seed": seed,
        "per": metrics["per"],
        "wer": metrics.get("wer"),
        "steps": {step: metrics[f"per_{step}"] for step in STEPS if f"per_{step}" in metrics},
        "ceiling": metrics.get("per_ceiling"),
        "members": members,
        "selected": selection["selected"],
        "seeds_converged": metrics.get("seeds_converged"),
        "regret": round(chosen - best, 2),
        "regret_of_the_paper": round(rates[selection["selected_by_paper"]] - best, 2),
        "seconds": round(seconds, 1),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the seeds together."""
    rates = [row["per"] for row in rows]
    ceilings = [row["ceiling"] for row in rows if row["ceiling"] is not None]
    ceiling = statistics.median(ceilings) if ceilings else None
    found: dict[str, Any] = {
        "name": "seeds",
        "value": round(statistics.median(rates), 2),
        "unit": "median held-out PER",
        "worst": round(max(rates), 2),
        "best": round(min(rates), 2),
        "baseline": ceiling,
        "regret": statistics.median(row["regret"] for row in rows),
        "regret_of_the_paper": statistics.median(row["regret_of_the_paper"] for row in rows),
        "seeds": len(rows),
    }
    if ceiling is not None:
        found["median_gap"] = round(found["value"] - ceiling, 2)
        found["converged"] = sum(rate < ceiling + CONVERGED for rate in rates)
    return found


if __name__ == "__main__":
    main()
