"""Which recordings the encoder that ships may learn from, and manifests of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.corpus.rejections import Rejection
from wav2vec_u.corpus.rows import iter_rows
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_text

MANIFEST_NAME = "manifest.tsv"
TRAIN_SPLIT = "train"

# Weights that ship need a licence that lets them be passed on under ours, and is there to be read.
ALLOWED = {
    "cv61_rsample100": "Mozilla Common Voice 6.1: CC0 1.0",
    "rhasspy_kathleen_en": "CC0 1.0",
    "rhasspy_kerstin_de": "CC0 1.0",
    "librispeech_resemblyzer_en": "LibriSpeech: CC BY 4.0; the model card names it",
    "speechocean762_en": "free for commercial and other use; listed by OpenSLR as CC BY 4.0, and "
    "the model card names it",
}
EXCLUDED = {
    "an4_en": "BSD-style, but the copy at hand is noise, as if its bytes had been swapped",
    "alffa_amharic": "said to be MIT, but came without a licence file: unclear",
}

TONES = 30
TONES_HZ = (300, 700, 1_300, 2_300, 4_000)


@dataclass(frozen=True)
class Clip:
    """A recording to learn from. There is no place for a transcript.

    Attributes
    ----------
    name : str
        Path below the folder of all corpora, with forward slashes; also what the clip is called.
    audio : Path
        Where the file is.
    speaker : str
        Empty if unknown; begins with the corpus, since corpora number their speakers alike.
    """

    name: str
    audio: Path
    speaker: str


def gather(corpora: Path) -> list[Clip]:
    """List the training recordings of all corpora that are allowed, in the order of `ALLOWED`.

    Parameters
    ----------
    corpora : Path
        Holds a folder for each corpus, with ``manifest.tsv``.

    Raises
    ------
    UserError
        If there are none.
    """
    clips: list[Clip] = []
    for corpus, licence in ALLOWED.items():
        folder = corpora / corpus
        if not (folder / MANIFEST_NAME).is_file():
            print(f"{corpus}: is not there")
            continue
        found = list(_train_clips(folder))
        print(f"{corpus}: {len(found)} recordings ({licence})")
        clips += found
    for folder in sorted(corpora.glob("*/")):
        if folder.name not in ALLOWED:
            reason = EXCLUDED.get(folder.name, "nobody has looked at its licence")
            print(f"{folder.name}: left out ({reason})")
    if not clips:
        raise UserError(f"{corpora}: holds none of the corpora {', '.join(ALLOWED)}")
    return clips


def _train_clips(folder: Path) -> Iterator[Clip]:
    for row in iter_rows(folder / MANIFEST_NAME):
        if isinstance(row, Rejection):
            print(f"{row.what}: {row.detail}")
        elif row.split == TRAIN_SPLIT:
            name = f"{folder.name}/{row.id}{row.audio.suffix}"
            yield Clip(name, row.audio, f"{folder.name}:{row.speaker or ''}")


def read_unpacked(folder: Path) -> list[Clip]:
    """List the recordings of a folder that `chunks.unpack` filled.

    Raises
    ------
    UserError
        If chunks are missing, so that there is no manifest yet.
    """
    manifest = folder / MANIFEST_NAME
    if not manifest.is_file():
        raise UserError(f"{manifest}: is not there; unpack all chunks first")
    return [
        Clip(row.id + row.audio.suffix, row.audio, row.speaker or "")
        for row in iter_rows(manifest)
        if not isinstance(row, Rejection)
    ]


def spread(clips: Sequence[Clip], most: int) -> list[Clip]:
    """Take at most so many clips, evenly from the whole list."""
    count = min(most, len(clips))
    return [clips[place * len(clips) // count] for place in range(count)]


def write_manifests(clips: Sequence[Clip], folder: Path, count: int) -> list[Path]:
    """Write manifests without transcripts, in all holding every clip once and in order.

    Parameters
    ----------
    clips : sequence of Clip
    folder : Path
    count : int
        Manifests, of about as many bytes of audio each.
    """
    sizes = np.array([clip.audio.stat().st_size for clip in clips], dtype=np.float64)
    middles = np.cumsum(sizes) - sizes / 2
    part = (middles / sizes.sum() * count).astype(int).clip(max=count - 1)
    manifests = []
    for number in range(count):
        lines = ["id\taudio\tspeaker\tsplit"]
        lines += [
            f"{clips[place].name}\t{clips[place].audio}\t{clips[place].speaker}\t{TRAIN_SPLIT}"
            for place in np.flatnonzero(part == number)
        ]
        if len(lines) > 1:
            manifests.append(folder / f"recordings-{number + 1:02d}.tsv")
            write_text(manifests[-1], "\n".join(lines) + "\n")
    return manifests


def write_tones(folder: Path) -> list[Clip]:
    """Write recordings of five tones in random order: what a campaign without corpora runs on."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    times = np.arange(SAMPLE_RATE // 5) / SAMPLE_RATE
    clips = []
    for number in range(TONES):
        tones = [0.3 * np.sin(2 * np.pi * hertz * times) for hertz in rng.choice(TONES_HZ, 10)]
        samples = np.concatenate(tones)
        samples += 0.003 * rng.standard_normal(len(samples))
        path = folder.absolute() / f"{number:02d}.wav"
        if not path.exists():  # a campaign that goes on must find what it knows
            soundfile.write(path, samples, SAMPLE_RATE)
        clips.append(Clip(f"tones/{path.name}", path, "tones"))
    return clips
