"""Claim: from synthetic speech on, every round understands more of a real voice, without labels.

Printed is the phone error rate on split `test` after every round of every restart of a finished
run, beside the likelihood gain, which the run itself can see.

    python benchmarks/synthetic_rounds.py RUN

RUN is the folder of a `wav2vec-u run` with `matching.method: synthetic` of a manifest with
transcripts.
The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from wav2vec_u.corpus.manifest import read_recordings
from wav2vec_u.corpus.references import read_references
from wav2vec_u.decode.hypotheses import recording_of, time_order
from wav2vec_u.decode.stage import decode_utterance
from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.evaluate.pronounce import Pronouncer
from wav2vec_u.matching.frame_hmm import HMM_NAME, FrameHmm
from wav2vec_u.matching.generator import GENERATOR_NAME, load_generator
from wav2vec_u.matching.rounds import FIGURES_NAME
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.text.corpus import PhoneText


def main() -> None:
    """Run the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    run: Path = parser.parse_args().run
    store, phones, test, references = open_test(run)
    rates: dict[str, list[float]] = {}
    for place in sorted(run.glob("matching/member_*/round_*")):
        model = FrameModel(load_generator(place / GENERATOR_NAME), FrameHmm.load(place / HMM_NAME))
        rate = error_rate(model, store, test, phones, references)
        gain = json.loads((place / FIGURES_NAME).read_text(encoding="utf-8"))["gain"]
        print(f"{place.parent.name} {place.name}: PER {rate:.1f}, gain {gain:.3f}", flush=True)
        rates.setdefault(place.parent.name, []).append(round(rate, 2))
    first, last = (mean([rounds[place] for rounds in rates.values()]) for place in (0, -1))
    claim = {"name": "synthetic_rounds", "value": last, "unit": "PER, %", "baseline": first}
    print(json.dumps({**claim, "ratio": last / first, "per_by_round": rates}))


def open_test(run: Path) -> tuple[SegmentStore, list[str], list[int], dict[str, list[str]]]:
    """Return segments, inventory, the places of the test in time order, and what was said."""
    store = SegmentStore(run / "segments")
    phones = PhoneText(run / "text").phones
    test = [i for i, split in enumerate(store.splits) if split == "test"]
    test.sort(key=lambda i: time_order(store.ids[i]))
    return store, phones, test, read_spoken(run, sorted({recording_of(store.ids[i]) for i in test}))


def read_spoken(run: Path, recordings: list[str]) -> dict[str, list[str]]:
    """Pronounce the transcripts of recordings, as far as they have one."""
    inputs = Pipeline.from_run(run).inputs
    transcripts = read_references(inputs.given_references(), read_recordings(run / "corpus"))
    pronouncer = Pronouncer(run / "text", inputs.config.text, inputs.language)
    spoken = pronouncer.pronounce([transcripts.get(name, "") for name in recordings])
    return {name: said for name, said in zip(recordings, spoken, strict=True) if said}


def error_rate(
    model: FrameModel,
    store: SegmentStore,
    test: Sequence[int],
    phones: list[str],
    references: dict[str, list[str]],
) -> float:
    """Decode `test`, phone by phone, with what a round has learned."""
    heard: dict[str, list[str]] = {name: [] for name in references}
    for i in test:
        if recording_of(store.ids[i]) in heard:
            decoded = decode_utterance(model, store.vectors(i), store.times(i), phones)
            heard[recording_of(store.ids[i])] += [span.phone for span in decoded.spans]
    return pool([count_errors(references[name], heard[name]) for name in references]).rate


if __name__ == "__main__":
    main()
