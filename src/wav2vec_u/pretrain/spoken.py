"""Synthetic speech as training material: a pack of audio, and a phone for every 20 ms of it.

The synthesiser knows which phone it says at which moment. A network that tells the phones of many
synthetic voices, while it learns to predict what is hidden in real speech, keeps in its frames what
tells phones apart, and not only what a spectrum looks like. No recording is transcribed for it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wav2vec_u.config import SAMPLE_RATE, ScriptConfig, SpokenConfig
from wav2vec_u.encoder.encode import FRAME_SAMPLES
from wav2vec_u.pretrain.pack import AudioPack, write_samples
from wav2vec_u.pretrain.targets import NO_CODE, Targets, save_targets
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_text
from wav2vec_u.synthesis.cast import LATIN_VOICES
from wav2vec_u.synthesis.speech import Script, speak
from wav2vec_u.text.aloud import can_be_read
from wav2vec_u.text.source import iter_lines

PHONES_NAME = "phones.txt"  # one a line, its number from 0 being its code; the first is the pause
_SHARDS = "shards"


def read_scripts(configs: Sequence[ScriptConfig]) -> list[Script]:
    """Read the texts, lines with figures and marks that voices spell out left out.

    Raises
    ------
    UserError
        If a text is missing, or nothing in it can be read aloud.
    """
    scripts = []
    for config in configs:
        lines = tuple(line for _, line in iter_lines(config.file) if can_be_read(line))
        if not lines:
            raise UserError(f"{config.file}: has no line that can be read aloud; give more text")
        voices = [
            voice
            for name in config.voices
            for voice in (LATIN_VOICES if name == "latin" else (name,))
        ]
        scripts.append(Script(lines, tuple(voices), config.share))
    return scripts


def write_spoken(folder: Path, config: SpokenConfig, seed: int, workers: int) -> dict[str, Any]:
    """Say the texts and write them down as an audio pack with targets.

    Parameters
    ----------
    folder : Path
        Gets what `pack.AudioPack` and `targets.Targets` read, and ``phones.txt``. What an
        interrupted call left in it is gone on with.
    config : SpokenConfig
    seed : int
    workers : int
        Processes that speak.

    Returns
    -------
    dict
        ``utterances``, ``hours`` and ``phones``.

    Raises
    ------
    UserError
        If a text is missing, or espeak-ng cannot speak.
    """
    scripts = read_scripts(config.scripts)
    ids: list[str] = []
    labels: list[list[str]] = []
    counts: Counter[str] = Counter()

    def said() -> Iterator[npt.NDArray[np.int16]]:
        for utterance in speak(folder / _SHARDS, scripts, config.hours, seed, workers):
            ids.append(utterance.id)
            labels.append(utterance.labels(FRAME_SAMPLES))
            counts.update(labels[-1])
            yield utterance.samples

    n_samples = write_samples(folder, said(), ids)
    least = config.min_phone_share * counts.total()
    phones = ["", *sorted(phone for phone, count in counts.items() if phone and count > least)]
    codes = {phone: code for code, phone in enumerate(phones)}
    save_targets(
        folder,
        [np.array([codes.get(phone, NO_CODE) for phone in row], dtype=np.int16) for row in labels],
    )
    write_text(folder / PHONES_NAME, "".join(phone + "\n" for phone in phones))
    shutil.rmtree(folder / _SHARDS)
    return {
        "utterances": len(ids),
        "hours": round(n_samples / SAMPLE_RATE / 3600, 3),
        "phones": len(phones) - 1,
    }


@dataclass(frozen=True)
class SpokenSpeech:
    """What `write_spoken` wrote.

    Attributes
    ----------
    pack : AudioPack
    targets : Targets
        Codes of phones.
    phones : list of str
        By their codes.
    """

    pack: AudioPack
    targets: Targets
    phones: list[str]

    @classmethod
    def load(cls, folder: Path) -> SpokenSpeech:
        """Open the files.

        Raises
        ------
        UserError
            If one is missing or damaged.
        """
        return cls(AudioPack(folder), Targets(folder), read_phones(folder))


def read_phones(folder: Path) -> list[str]:
    """Return the phones by their codes; the first, empty, is the pause.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    try:
        phones = (folder / PHONES_NAME).read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder}: holds no readable phones; remove it and run again") from error
    return phones
