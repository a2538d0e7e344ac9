"""A made-up corpus of a few seconds: every letter of a small language is a tone of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from wav2vec_u.config import RunConfig, load_config

RATE = 16_000
LETTERS = "abdefgik"
LETTER_SECONDS = (0.06, 0.1)


def tiny_config(**overrides: Any) -> RunConfig:
    """Settings under which the whole pipeline takes some seconds."""
    settings: dict[str, Any] = {
        "threads": 1,
        "silence": {"method": "none"},
        "features": TINY_FEATURES,
        "segments": {
            "boundaries": "viterbi",
            "clusters": 12,
            "kmeans_iterations": 5,
            "kmeans_restarts": 1,
        },
        "text": {"phonemizer": "graphemes", "min_word_count": 1},
        "matching": TINY_MATCHING,
        "graph": {"fragments": 20},
        "selftrain": TINY_SELFTRAIN,
        "words": TINY_SEARCH,
        "evaluate": {"bootstrap_samples": 20, "ceiling": False},
    }
    return load_config(None, **{**settings, **overrides})


TINY_FEATURES: dict[str, Any] = {"encoder": "mfcc", "batch_seconds": 4.0}
# Not annealed: of so little speech that would end in every phone everywhere.
TINY_MATCHING: dict[str, Any] = {
    "method": "decipherment",
    "seeds": 2,
    "decipherment": {
        "codes": 16,
        "min_phone_share": 0.0,
        "start_sharpness": 1.0,
        "trigram_sharpness": [1.0],
        "bigram_iterations": 10,
        "trigram_iterations": 5,
        "final_iterations": 10,
        "reheats": 0,
        "generator_kernel": 1,
        "generator_hidden": 16,
        "generator_dropout": 0.0,
        "generator_epochs": 20,
        "generator_least_updates": 1,
        "generator_lr": 0.05,
    },
}
TINY_SEARCH: dict[str, Any] = {"beam": 8.0, "lattice_beam": 4.0}
# However unsure a label is, it is one: there are few enough.
TINY_SELFTRAIN: dict[str, Any] = {
    "rounds": 1,
    "epochs": 1,
    "stay_probability": 0.2,
    "sure": 0.0,
    "word_sure": 0.0,
    "mixture_context": 1,
    "mixture_dim": 8,
    "mixture_components": 2,
    "frames": {"rounds": 1, "kernel": 3, "hidden": 8},
    **TINY_SEARCH,
}


def sentences(count: int, seed: int) -> list[list[str]]:
    """Sentences of three to five words."""
    words_rng = np.random.default_rng(7)
    words = [
        "".join(words_rng.choice(list(LETTERS), size=words_rng.integers(2, 5))) for _ in range(40)
    ]
    rng = np.random.default_rng(seed)
    return [[words[i] for i in rng.integers(40, size=rng.integers(3, 6))] for _ in range(count)]


def speak(words: list[str], rng: np.random.Generator) -> np.ndarray:
    """Render every letter as a tone of 60 to 100 ms, (samples,) float32."""
    parts = []
    for letter in "".join(words):
        length = int(rng.uniform(*LETTER_SECONDS) * RATE)
        hertz = 250 * 1.45 ** LETTERS.index(letter)
        parts.append(0.2 * np.sin(2 * np.pi * hertz * np.arange(length) / RATE))
    samples = np.concatenate(parts)
    return (samples + 0.003 * rng.standard_normal(len(samples))).astype(np.float32)


def write_corpus(folder: Path, n_train: int = 40, n_test: int = 4) -> tuple[Path, Path]:
    """Write recordings, a manifest with transcripts, and a text of other sentences.

    Returns
    -------
    manifest, text : Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    lines = ["path\tspeaker\tsplit\ttext"]
    for number, words in enumerate(sentences(n_train + n_test, seed=2)):
        name = f"r{number:02d}.wav"
        soundfile.write(folder / name, speak(words, rng), RATE)
        split = "train" if number < n_train else "test"
        lines.append(f"{name}\tone\t{split}\t{' '.join(words)}")
    manifest = folder / "manifest.tsv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = folder / "text.txt"
    spoken = [" ".join(words) for words in sentences(300, seed=3)]
    text.write_text("\n".join(spoken) + "\n", encoding="utf-8")
    return manifest, text


def content(out: Path) -> dict[str, bytes]:
    """All that a run made but what it cost: files by path, without records, logs and the page."""
    left_out = {"stage.json", "run.json", "metrics.json", "report.html", "log.jsonl", ".lock"}
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in left_out
    }
