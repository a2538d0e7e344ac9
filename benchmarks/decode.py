"""Claim: words are found twenty times faster than they are said, with a large lexicon and 4-grams.

A graph of all words of a text is built; then sentences that were taken out of it are found again
in made-up frames, 50 a second: every phone lasts a few of them, and they are as noisy as asked for,
so that about as many frames are wrong as on a real voice.

    python benchmarks/decode.py TEXT [--language en-us] [--order 4] [--prune 0 1 1] [--noise 1.0]

TEXT is a text file. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.config import TextConfig, WordsConfig
from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.graph.build import build_graph
from wav2vec_u.graph.language_model import write_word_model
from wav2vec_u.graph.parallel import SearchSettings, find_all
from wav2vec_u.text.lexicon import SILENCE, Lexicon
from wav2vec_u.text.normalize import Normalizer
from wav2vec_u.text.phonemize import load_phonemizer

FRAMES_PER_SECOND = 50
FRAMES_PER_PHONE = 4.0  # mean
SENTENCES = 300
LONGEST = 25  # words of a sentence
POWER = 0.5  # of the likelihoods


def main() -> None:
    """Run the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--language", default="en-us")
    parser.add_argument("--order", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--max-words", type=int, default=1_000_000, help="of the text")
    parser.add_argument(
        "--prune", type=int, nargs="*", default=[0, 1, 1], help="see graph.ngram_prune"
    )
    parser.add_argument("--beam", type=float, default=WordsConfig().beam)
    parser.add_argument("--lattice-beam", type=float, default=WordsConfig().lattice_beam)
    parser.add_argument("--max-active", type=int, default=WordsConfig().max_active)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    normalize = Normalizer(args.language)
    lines = [normalize(line) for line in args.text.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    rng.shuffle(lines)
    words = [word for word, _ in Counter(w for line in lines for w in line.split()).most_common()]
    pronunciations = load_phonemizer(TextConfig()).phonemize(words, args.language)
    lexicon = Lexicon(pronunciations)
    phones = [SILENCE, *sorted({phone for said in pronunciations.values() for phone in said})]
    known = [
        line.split()
        for line in lines
        if len(line.split()) <= LONGEST and all(word in lexicon for word in line.split())
    ]
    held_out = known[:SENTENCES]
    taken = {" ".join(sentence) for sentence in held_out}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        text = folder / "text.txt"
        text.write_text("\n".join(line for line in lines if line not in taken), encoding="utf-8")
        began = time.perf_counter()
        arpa = folder / "words.arpa"
        entries = write_word_model(
            arpa,
            text,
            lexicon,
            args.language,
            order=args.order,
            max_words=args.max_words,
            prune=args.prune,
            fragments=1_500,
            seed=0,
        )
        built = build_graph(folder, arpa, args.order, entries, phones, silence=0.3)
        building = time.perf_counter() - began
        print(f"graph: {built}, {building:.0f} s", flush=True)
        outputs = {phone: number for number, phone in enumerate(phones)}
        spoken = [[outputs[p] for word in said for p in lexicon[word]] for said in held_out]
        labels = [say(sentence, rng) for sentence in spoken]
        frames = [hear(each, len(phones), args.noise, rng) for each in labels]
        right = np.mean(
            [np.mean(rows.argmax(1) == each) for rows, each in zip(frames, labels, strict=True)]
        )
        settings = SearchSettings(folder, args.beam, args.lattice_beam, args.max_active)
        list(find_all(settings, frames[:1], 1))  # compiled once on a machine
        began = time.perf_counter()
        found = list(find_all(settings, iter(frames), args.threads))
        seconds = time.perf_counter() - began
    said = sum(map(len, frames)) / FRAMES_PER_SECOND
    heard = [[] if path is None else [item.word for item in path.words] for path in found]
    errors = pool([count_errors(a, b) for a, b in zip(held_out, heard, strict=True)])
    print(
        json.dumps(
            {
                "name": "decode",
                "value": round(said / seconds, 1),
                "unit": "times real time, the loading of the graph included",
                "words": built["words"],
                "states": built["states"],
                "order": args.order,
                "prune": args.prune,
                "beam": args.beam,
                "lattice_beam": args.lattice_beam,
                "max_active": args.max_active,
                "threads": args.threads,
                "building_s": round(building, 1),
                "frames_right": round(float(right), 3),
                "wer": round(errors.rate, 1),
                "peak_mib": round(peak_mib()),
            }
        )
    )


def say(phones: list[int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Give every phone some frames, and both ends a pause."""
    sequence = np.array([0, *phones, 0])
    return np.repeat(sequence, rng.geometric(1 / FRAMES_PER_PHONE, size=len(sequence)))


def hear(
    labels: NDArray[np.int64], n_phones: int, noise: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Make weighted log-likelihoods (T, V) of frames."""
    scores = noise * rng.standard_normal((len(labels), n_phones))
    scores[np.arange(len(labels)), labels] += 2.0
    return (POWER * scores / max(noise, 0.1) ** 2).astype(np.float32)


def peak_mib() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
