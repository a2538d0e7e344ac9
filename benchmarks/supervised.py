"""Claim: what the encoder reaches with 10 minutes, 1 hour and all transcripts of a corpus.

The reference points beside which learning without labels is to be seen: the same encoder,
fine-tuned by CTC as `wav2vec-u finetune` does it, phone error rate of the best path on `test`.

    python benchmarks/supervised.py CORPUS/manifest.tsv --lang en-us

The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from wav2vec_u.config import load_config
from wav2vec_u.evaluate.labelled import TEST_SPLIT, TRAIN_SPLIT
from wav2vec_u.finetune.stage import finetune_artifact
from wav2vec_u.runtime.seeds import numpy_generator

ALL = float("inf")


def main() -> None:
    """Run the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path, help="TSV with path, seconds, split and text")
    parser.add_argument("--lang", required=True, help="espeak voice, such as en-us")
    parser.add_argument("--encoder", default="base")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60, ALL])
    parser.add_argument("--updates", type=int, default=1_500)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_config(language=arguments.lang, finetune={"updates": arguments.updates})
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for minutes in arguments.minutes:
            folder = Path(temporary) / f"{minutes:g}"
            folder.mkdir()
            references = folder / "references.tsv"
            write_references(references, arguments.manifest, minutes)
            figures = finetune_artifact(folder / "model", arguments.encoder, references, config)
            rows.append(
                {
                    "hours": round(figures["train_hours"], 3),
                    "per": figures["per"],
                    "per_low": figures["per_low"],
                    "per_high": figures["per_high"],
                    "best_update": figures["best_update"],
                }
            )
            print(rows[-1], flush=True)
    first, last = rows[0]["per"], rows[-1]["per"]
    claim = {"name": "supervised", "value": last, "unit": "PER, %", "baseline": first}
    print(json.dumps({**claim, "ratio": last / first, "amounts": rows}))


def write_references(path: Path, manifest: Path, minutes: float) -> None:
    """Copy the lines of `test`, and of `train` as many as there are minutes, drawn at random."""
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    train = [row for row in rows if row["split"] == TRAIN_SPLIT]
    test = [row for row in rows if row["split"] == TEST_SPLIT]
    order = numpy_generator(0, "supervised", "order").permutation(len(train)).tolist()
    chosen = list(_first_minutes([train[place] for place in order], minutes))
    with path.open("w", encoding="utf-8") as file:
        file.write("path\tsplit\ttext\n")
        for row in [*chosen, *test]:
            audio = (manifest.parent / row["path"]).resolve()
            file.write(f"{audio}\t{row['split']}\t{row['text']}\n")


def _first_minutes(rows: list[dict[str, str]], minutes: float) -> Iterator[dict[str, str]]:
    left = 60 * minutes
    for row in rows:
        if left <= 0:
            return
        left -= float(row["seconds"])
        yield row


if __name__ == "__main__":
    main()
