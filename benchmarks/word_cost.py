"""Claim: a word's cost that is found without labels (`words.word_cost: auto`) lowers word errors.

The model of a finished run's self-training reads some recordings with several costs of a word; for
each, how many phones the words found have, which the run can see, beside phone and word error rate,
which it cannot. The cost that the run finds is the last row, and the baseline is no cost.

    python benchmarks/word_cost.py RUN [--split train] [--recordings 250] [--threads 1]

RUN is the folder of a `wav2vec-u run` of a manifest with transcripts. The last line printed is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthetic_rounds import read_spoken
from wav2vec_u.corpus.manifest import read_recordings
from wav2vec_u.corpus.references import read_references
from wav2vec_u.decode.hypotheses import recording_of, time_order
from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.graph.parallel import SearchSettings, find_all
from wav2vec_u.graph.word_cost import COSTS, calibrate_word_cost, places_to_sample
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.text.normalize import Normalizer


def main() -> None:
    """Run the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--split", default="train")
    parser.add_argument("--recordings", type=int, default=250, help="at most, from the first on")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    run: Path = given.run
    store, text = SegmentStore(run / "segments"), PhoneText(run / "text")
    inputs = Pipeline.from_run(run).inputs
    normalize = Normalizer(inputs.language)
    places = [i for i, split in enumerate(store.splits) if split == given.split]
    places.sort(key=lambda i: time_order(store.ids[i]))
    names = sorted({recording_of(store.ids[i]) for i in places})[: given.recordings]
    spoken = read_spoken(run, names)
    transcripts = read_references(inputs.given_references(), read_recordings(run / "corpus"))
    chosen = [i for i in places if recording_of(store.ids[i]) in spoken]
    model = FrameModel.load(run / "selftrain")
    settings = SearchSettings.of(run / "graph", inputs.config.words, model.stay)

    def scores(which: list[int]) -> list[NDArray[np.float32]]:
        return [model.likelihoods(store.vectors(i)) for i in which]

    sample = scores(places_to_sample(store.splits))
    auto = calibrate_word_cost(settings, sample, text.phones_per_word, given.threads)
    print(f"words of the text have {text.phones_per_word:.2f} phones; found: {auto} nats")
    rows = []
    for cost in (*COSTS, auto):
        said: dict[str, list[str]] = {name: [] for name in spoken}
        words: dict[str, list[str]] = {name: [] for name in spoken}
        phones_on_paths = 0
        found = find_all(replace(settings, word_cost=cost), scores(chosen), given.threads)
        for i, path in zip(chosen, found, strict=True):
            name = recording_of(store.ids[i])
            if path is not None:
                said[name] += [text.phones[label] for label, _, _ in path.likeliest_phones()]
                words[name] += [item.word for item in path.words]
                phones_on_paths += len(path.phones())
        row = {
            "cost": cost,
            "phones_per_word": phones_on_paths / max(1, sum(map(len, words.values()))),
            "per": pool([count_errors(spoken[name], said[name]) for name in spoken]).rate,
            "wer": pool(
                [count_errors(normalize(transcripts[name]).split(), words[name]) for name in spoken]
            ).rate,
        }
        rows.append({key: round(value, 2) for key, value in row.items()})
        print(rows[-1], flush=True)
    claim = {"name": "word_cost", "value": rows[-1]["wer"], "unit": "WER, %"}
    baseline = rows[0]["wer"]
    print(
        json.dumps(
            {**claim, "baseline": baseline, "ratio": rows[-1]["wer"] / baseline, "costs": rows}
        )
    )


if __name__ == "__main__":
    main()
