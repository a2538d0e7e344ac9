"""Claim: every round of self-training understands more of a real voice, without labels.

Printed are, for split `test` and every round of a finished run, the phone error rate of the phones
as the trigram reads them and of those of the words found, and the word error rate, beside the
likelihood gain, which the run itself can see.

    python benchmarks/selftrain_rounds.py RUN

RUN is the folder of a `wav2vec-u run` of a manifest with transcripts. The last line printed is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from synthetic_rounds import error_rate, open_test
from wav2vec_u.corpus.manifest import read_recordings
from wav2vec_u.corpus.references import read_references
from wav2vec_u.decode.hypotheses import recording_of
from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.graph.parallel import SearchSettings, find_all
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.selftrain.rounds import FIGURES_NAME
from wav2vec_u.text.normalize import Normalizer

THREADS = 2


def main() -> None:
    """Run the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    run: Path = parser.parse_args().run
    store, phones, test, references = open_test(run)
    inputs = Pipeline.from_run(run).inputs
    config = inputs.config.words
    graph = SearchSettings.of(run / "graph", config, config.stay_probability)
    normalize = Normalizer(inputs.language)
    transcripts = read_references(inputs.given_references(), read_recordings(run / "corpus"))
    rows = []
    for place in sorted(run.glob("selftrain/round_*")):
        model = FrameModel.load(place)
        said: dict[str, list[str]] = {name: [] for name in references}
        words: dict[str, list[str]] = {name: [] for name in references}
        found = find_all(graph, (model.likelihoods(store.vectors(i)) for i in test), THREADS)
        for i, path in zip(test, found, strict=True):
            name = recording_of(store.ids[i])
            if path is not None and name in said:
                said[name] += [phones[label] for label, _, _ in path.likeliest_phones()]
                words[name] += [item.word for item in path.words]
        row = {
            "round": place.name,
            "gain": json.loads((place / FIGURES_NAME).read_text(encoding="utf-8"))["gain"],
            "per_phones": error_rate(model, store, test, phones, references),
            "per_words": pool([count_errors(references[name], said[name]) for name in said]).rate,
            "wer": pool(
                [count_errors(normalize(transcripts[name]).split(), words[name]) for name in words]
            ).rate,
        }
        rows.append({key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()})
        print(rows[-1], flush=True)
    first, last = rows[0]["per_words"], rows[-1]["per_words"]
    claim = {"name": "selftrain_rounds", "value": last, "unit": "PER, %", "baseline": first}
    print(json.dumps({**claim, "ratio": last / first, "rounds": rows}))


if __name__ == "__main__":
    main()
