"""Do restarts find the language, and does label-free selection pick a good one?

Reads a finished run with several restarts and a manifest with transcripts, decodes the held-out
split with every restart's generator, and sets the labelled error rates beside the label-free
figures. Regret is how far the chosen restart is from the best one by label.

    python benchmarks/restarts.py runs/demo [--manifest TSV]

Without a run, it makes the demo's run in a temporary folder, which takes several minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from wav2vec_u.corpus.references import read_references
from wav2vec_u.decode.hypotheses import recording_of
from wav2vec_u.decode.stage import decode_greedily
from wav2vec_u.demo.run import run_demo
from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.evaluate.pronounce import Pronouncer
from wav2vec_u.matching.generator import Generator, load_generator
from wav2vec_u.recognizer import read_run_config
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.text.corpus import PhoneText


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--manifest", type=Path, help="default: that of the run")
    arguments = parser.parse_args()
    run = arguments.run
    if run is None:
        run = Path(tempfile.mkdtemp()) / "demo"
        run_demo(run)
    given = json.loads((run / "run.json").read_text(encoding="utf-8"))
    report(run, arguments.manifest or Path(given["audio"]), given["language"])


def report(run: Path, manifest: Path, language: str) -> None:
    """Print a line for every restart and the summary as JSON."""
    selection = json.loads((run / "matching" / "selection.json").read_text(encoding="utf-8"))
    references = pronounced(run, manifest, language)
    rates = {}
    for row in selection["members"]:
        member = row["member"]
        folder = run / "matching" / f"member_{member:02d}"
        rates[member] = error_rate(
            run, load_generator(folder / "generator.safetensors"), references
        )
        print(json.dumps({**row, "per": round(rates[member], 2)}))
    best = min(rates.values())
    values = np.array(list(rates.values()))
    print(
        json.dumps(
            {
                "name": "restarts",
                "value": round(float(np.median(values)), 2),
                "unit": "median held-out PER",
                "baseline": round(best, 2),
                "ratio": round(float(np.median(values)) / best, 3),
                "per_min": round(best, 2),
                "per_max": round(float(values.max()), 2),
                "regret": round(rates[selection["selected"]] - best, 2),
                "regret_of_the_paper": round(rates[selection["selected_by_paper"]] - best, 2),
            }
        )
    )


def pronounced(run: Path, manifest: Path, language: str) -> dict[str, list[str]]:
    """Return the phones of every transcript that can be pronounced, by recording."""
    transcripts = read_references(manifest)
    pronouncer = Pronouncer(run / "text", read_run_config(run).text, language)
    phones = pronouncer.pronounce(list(transcripts.values()))
    return {key: item for key, item in zip(transcripts, phones, strict=True) if item is not None}


def error_rate(run: Path, generator: Generator, references: dict[str, list[str]]) -> float:
    """Phone error rate of a generator on the split that the run reports."""
    store = SegmentStore(run / "segments")
    phones = PhoneText(run / "text").phones
    split = read_run_config(run).evaluate.split
    hypotheses: dict[str, list[str]] = {}
    for i, utterance in enumerate(store.ids):
        recording = recording_of(utterance)
        if store.splits[i] == split and recording in references:
            decoded = decode_greedily(generator, store.vectors(i), store.times(i), phones)
            hypotheses.setdefault(recording, []).extend(span.phone for span in decoded.spans)
    errors = [count_errors(references[key], said) for key, said in hypotheses.items()]
    return pool(errors).rate


if __name__ == "__main__":
    main()
