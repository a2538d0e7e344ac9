"""Claim: each trick of the published objective is worth something, or is not, on planted languages.

One thing at a time differs from the settings of `gan_convergence.py`; for every variant and seed, a
planted language is searched as there, and labels tell how good the chosen member is. Seeds are the
outer loop, so that what is done when it is stopped compares like with like; what stands in OUT is
not done again.

    python benchmarks/gan_ablation.py --out OUT [--seeds 5] [--members 4]

OUT gets ``rows.jsonl`` and ``ablation.svg``. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from gan_convergence import CONVERGED, SETTINGS, find
from wav2vec_u.config import GanConfig, MatchingConfig
from wav2vec_u.matching.gan.layout import Layout, join
from wav2vec_u.runtime.files import read_jsonl, write_text
from wav2vec_u.testing.language import Language, make_language
from wav2vec_u.testing.planted import Planted, PlantedSegments, PlantedText, plant

NOISE = 1.5
REPEATS = 0.3
DEFAULT = "as it is"


@dataclass(frozen=True)
class Variant:
    """What differs.

    Attributes
    ----------
    group, name : str
        What is changed, and to what.
    gan : dict
        Settings of the search.
    planted : dict
        Arguments of `plant`.
    change : callable or None
        What is done to the planted language afterwards.
    join : callable
        How runs of equal symbols become one.
    """

    group: str
    name: str
    gan: dict[str, Any] = field(default_factory=dict)
    planted: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Planted, Language], Planted] | None = None
    join: Callable[[Tensor, Layout, Tensor | None], tuple[Tensor, Layout]] = join


class _WithoutSilence(PlantedText):
    def sentence_with_silence(self, i: int, rng: np.random.Generator) -> np.ndarray:
        return self.sentence(i)


def without_silence_in_text(planted: Planted, language: Language) -> Planted:
    """Take all silences out of the text; they stay in the speech."""
    return replace(planted, text=_WithoutSilence(language.phones, planted.text.words))


def silence_at_ends_only(planted: Planted, language: Language) -> Planted:
    """Leave silence at both ends of a sentence of the text; in speech it stays between words."""
    return replace(planted, text=PlantedText(language.phones, planted.text.words, 0.0))


def without_any_silence(planted: Planted, language: Language) -> Planted:
    """Take all silences out of text and speech, as a perfect detector of pauses would."""
    speech = planted.segments
    kept = [speech.labels(i) != 0 for i in range(len(speech))]
    segments = PlantedSegments(
        [speech.vectors(i)[mask] for i, mask in enumerate(kept)],
        [speech.labels(i)[mask] for i, mask in enumerate(kept)],
        speech.splits,
    )
    return replace(without_silence_in_text(planted, language), segments=segments)


def other_domain(planted: Planted, language: Language) -> Planted:
    """Let the text be of the same words, of which others are frequent and follow each other."""
    order = np.random.default_rng(language.seed).permutation(len(language.lexicon))
    other = replace(language, successors=language.successors[np.ix_(order, order)])
    sentences = [
        [language.phone_ids(word) for word in sentence]
        for sentence in other.sentences(len(planted.text), "text")
    ]
    return replace(planted, text=PlantedText(language.phones, sentences))


def squeezed(dim: int) -> Callable[[Planted, Language], Planted]:
    """Return a change that keeps the principal components of the segments alone."""

    def change(planted: Planted, language: Language) -> Planted:
        speech = planted.segments
        vectors = [speech.vectors(i) for i in range(len(speech))]
        mean = np.concatenate(vectors).mean(axis=0)
        _, _, rows = np.linalg.svd(np.concatenate(vectors) - mean, full_matrices=False)
        axes = rows[:dim].T.astype(np.float32)  # (P, dim)
        segments = PlantedSegments(
            [(item - mean) @ axes for item in vectors],
            [speech.labels(i) for i in range(len(speech))],
            speech.splits,
        )
        return replace(planted, segments=segments, centres=(planted.centres - mean) @ axes)

    return change


def by_mean(logits: Tensor, layout: Layout, draw: Tensor | None) -> tuple[Tensor, Layout]:
    """Join by the mean of a run in training too."""
    return join(logits, layout, None)


BASE = {"positions": [0.0]}  # one thing at a time: they are a variant of their own
# No game, and large batches: tables of few utterances are not those of the language.
STATISTICS = {"objective": "statistics", "batch_size": 240, "updates": 500}
RESIDUAL = {"generator_residual": True, "generator_batch_norm": 1.0}

VARIANTS = (
    Variant("default", DEFAULT),
    Variant("silence", "none in the text", change=without_silence_in_text),
    Variant("silence", "at the text's ends alone", change=silence_at_ends_only),
    Variant("silence", "none in text and speech", change=without_any_silence),
    Variant("segments a phone", "1.0", planted={"repeats": 0.0}),
    Variant("segments a phone", "2.0", planted={"repeats": 0.5}),
    Variant("segments a phone", "3.3", planted={"repeats": 0.7}),
    Variant("joining", "by means", join=by_mean),
    Variant("joining", "nothing is joined", gan={"segmenter": "none"}),
    Variant(
        "joining",
        "half of the segments at random",
        gan={"segmenter": "random", "segmenter_rate": 0.5},
    ),
    Variant(
        "joining",
        "means of two, then joined",
        gan={"segmenter": "uniform_join", "segmenter_rate": 0.5},
    ),
    Variant("principal components", "4 of 32", change=squeezed(4)),
    Variant("principal components", "8 of 32", change=squeezed(8)),
    Variant("principal components", "16 of 32", change=squeezed(16)),
    Variant("utterances a batch", "12", gan={"batch_size": 12}),
    Variant("utterances a batch", "160", gan={"batch_size": 160}),
    Variant("generator kernel", "4", gan={"generator_kernel": 4}),
    Variant("generator kernel", "9", gan={"generator_kernel": 9}),
    Variant("penalties", "no gradient penalty", gan={"gradient_penalty": [0.0]}),
    Variant("penalties", "no smoothness", gan={"smoothness": [0.0]}),
    Variant("penalties", "no diversity", gan={"diversity": [0.0]}),
    Variant("penalties", "no skip-grams", gan={"skipgrams": [0.0]}),
    Variant(
        "objective", "relativistic", gan={"objective": "relativistic", "gradient_penalty": [0.05]}
    ),
    Variant("objective", "statistics alone", gan=STATISTICS),
    Variant("objective", "statistics alone, positions too", gan=STATISTICS | {"positions": [4.0]}),
    Variant("objective", "positions beside", gan={"positions": [1.0, 4.0]}),
    Variant(
        "objective",
        "warm-up by statistics",
        gan={"warm_up_updates": 300, "start_discriminator_updates": 50},
    ),
    Variant(
        "objective",
        "discriminators anew every 250",
        gan={"discriminator_reset_every": 250, "start_discriminator_updates": 20},
    ),
    Variant("objective", "replay of 0.3", gan={"replay": 0.3, "replay_every": 40}),
    Variant("objective", "residual layer", gan=RESIDUAL),
    Variant("objective", "residual layer, clusters told", gan=RESIDUAL | {"auxiliary": [0.3, 0.5]}),
    Variant("text", "400 sentences", planted={"sentences": 400}),
    Variant("text", "40,000 sentences", planted={"sentences": 40_000}),
    Variant("text", "of another domain", change=other_domain),
)


def main() -> None:
    """Run the claim."""
    args = grid_arguments(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    rows_file = args.out / "rows.jsonl"
    rows = list(read_jsonl(rows_file)) if rows_file.exists() else []
    done = {(row["group"], row["variant"], row["seed"]) for row in rows}
    with rows_file.open("a", encoding="utf-8") as file:
        for seed in range(args.seeds):
            for variant in VARIANTS:
                if (variant.group, variant.name, seed) in done:
                    continue
                row = measure(variant, seed, args.members, args.threads)
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(row, flush=True)
    table = [summary(variant, rows) for variant in VARIANTS]
    for line in table:
        print(line)
    write_text(args.out / "ablation.svg", draw(rows))
    default = next(line for line in table if line["variant"] == DEFAULT)
    worst = max(table, key=lambda line: float(line["per"]))
    print(
        json.dumps(
            {
                "name": "gan_ablation",
                "value": default["per"],
                "unit": "PER of the chosen member, median over seeds, default",
                "baseline": worst["per"],
                "ratio": default["per"] / worst["per"],
                "variants": table,
            }
        )
    )


def grid_arguments(description: str) -> argparse.ArgumentParser:
    """Return what every search over variants and seeds can be told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def measure(variant: Variant, seed: int, members: int, threads: int) -> dict[str, Any]:
    """Search one planted language."""
    language = make_language(seed, n_consonants=12, n_vowels=5)
    planted = plant(language, seed=seed, **{"noise": NOISE, "repeats": REPEATS, **variant.planted})
    if variant.change is not None:
        planted = variant.change(planted, language)
    gan = GanConfig(**(SETTINGS | BASE | variant.gan))
    config = MatchingConfig(seeds=members, seed=seed, device="cpu", gan=gan)
    with patch("wav2vec_u.matching.gan.ensemble.join", variant.join):
        found = find(planted, config, threads)
    figures = {key: found[key] for key in ("chosen", "best", "taught", "seconds")}
    return {"group": variant.group, "variant": variant.name, "seed": seed, **figures}


def summary(variant: Variant, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a variant over its seeds."""
    own = rows_of(variant, rows)
    rates = [row["chosen"] for row in own]
    return {
        "group": variant.group,
        "variant": variant.name,
        "per": round(statistics.median(rates), 1),
        "worst": round(max(rates), 1),
        "nearest": round(statistics.median(row["taught"] for row in own), 1),
        "found": sum(row["chosen"] < row["taught"] + CONVERGED for row in own),
        "seeds": len(own),
        "seconds": round(statistics.median(row["seconds"] for row in own), 1),
    }


def rows_of(variant: Variant, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a variant, one a seed."""
    return [row for row in rows if (row["group"], row["variant"]) == (variant.group, variant.name)]


ROW, LEFT, WIDTH = 20, 300, 900
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.default{stroke:#c44}"
    ".seed{fill:#269;fill-opacity:.45}.median{stroke:#269;stroke-width:3}"
)


def draw(rows: list[dict[str, Any]]) -> str:
    """Draw a line a variant: a dot for every seed, a bar at their median, as SVG."""

    def x(per: float) -> float:
        return LEFT + (WIDTH - LEFT - 20) * min(per, 100) / 100

    def rule(kind: str, per: float, top: float, bottom: float) -> str:
        place = f'x1="{x(per):.1f}" x2="{x(per):.1f}" y1="{top}" y2="{bottom}"'
        return f'<line class="{kind}" {place}/>'

    height = ROW * (len(VARIANTS) + 3)
    parts = []
    for tick in range(0, 101, 20):
        parts.append(rule("grid", tick, 10, height - 30))
        parts.append(f'<text x="{x(tick)}" y="{height - 12}" text-anchor="middle">{tick}</text>')
    for place, variant in enumerate(VARIANTS):
        y = ROW * (place + 1)
        rates = [row["chosen"] for row in rows_of(variant, rows)]
        median = statistics.median(rates)
        if variant.name == DEFAULT:
            parts.append(rule("default", median, 10, height - 30))
        label = f"{variant.group}: {variant.name}"
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{label}</text>')
        parts += [f'<circle class="seed" cx="{x(rate):.1f}" cy="{y}" r="4"/>' for rate in rates]
        parts.append(rule("median", median, y - 7, y + 7))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}"><title>Phone error rate of the chosen member, percent, by '
        f"what was changed</title><style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    main()
