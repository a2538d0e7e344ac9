"""Many utterances of synthetic speech, no two by the same throat in the same room.

espeak-ng ends the whole process on some pairs of text and voice. So it speaks in processes of its
own, which write down every utterance as soon as it is said; one that dies is followed by another,
which goes on behind the utterance that it died of.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_jsonl
from wav2vec_u.runtime.progress import progress
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.synthesis.cast import PLAIN_PROBABILITY, VARIANTS
from wav2vec_u.synthesis.degrade import degrade, warp
from wav2vec_u.synthesis.voice import EspeakVoice, Manner, PhoneStart, Speech

SHARD_SECONDS = 600.0  # of speech, said by one process after another
WORDS = (4, 13)  # of an utterance
WORDS_PER_MINUTE = (115, 210)
PITCH = (20, 80)
PITCH_RANGE = (30, 80)
PAUSE_SECONDS = 0.06  # at either end, on average
UTTERANCE_SECONDS = (1.0, 10.0)
MIN_PHONES = 8
MOST_TRIES = 20  # of utterances that come to nothing, one after the other
_SAID = "said.jsonl"
_SAMPLES = "samples.i16"
_TRIED = "tried.txt"
_REFUSED = "refused.txt"
_WHOLE = "whole"


@dataclass(frozen=True)
class Script:
    """Lines, and who may read them.

    Attributes
    ----------
    lines : tuple of str
    voices : tuple of str
        espeak-ng voices; one is drawn for every utterance.
    share : float
        Of all utterances, relative to the other scripts.
    """

    lines: tuple[str, ...]
    voices: tuple[str, ...]
    share: float = 1.0


@dataclass(frozen=True)
class SyntheticUtterance:
    """One utterance.

    Attributes
    ----------
    id : str
    samples : (n,) int16
        At 16 kHz.
    phones : list of PhoneStart
        From sample 0 on; the phone is empty in a pause.
    """

    id: str
    samples: npt.NDArray[np.int16]
    phones: list[PhoneStart]

    def labels(self, hop: int) -> list[str]:
        """Name the phone in the middle of every whole frame of `hop` samples."""
        return self.phones_at(np.arange(len(self.samples) // hop) * hop + hop // 2)

    def phones_at(self, samples: npt.NDArray[np.integer]) -> list[str]:
        """Name the phones at some moments, counted in samples."""
        starts = np.array([start.sample for start in self.phones])
        places = np.searchsorted(starts, samples, side="right") - 1
        return [self.phones[place].phone for place in places.tolist()]


def speak(
    folder: Path, scripts: Sequence[Script], hours: float, seed: int, workers: int
) -> Iterator[SyntheticUtterance]:
    """Say so many hours.

    Parameters
    ----------
    folder : Path
        For what is said; gets a folder for each 10 minutes. One that stands there already, of the
        same arguments, is not said again if it is whole. One that is not is begun anew: how a
        sentence is said depends on what the process has said before.
    scripts : sequence of Script
    hours : float
    seed : int
    workers : int
        Processes.

    Raises
    ------
    UserError
        If espeak-ng is not installed or has no such voice, or nothing can be said.
    """
    seconds = 3600 * hours
    shards = max(1, round(seconds / SHARD_SECONDS))
    probe = EspeakVoice(scripts[0].voices[0])
    for script in scripts:
        for voice in script.voices:
            probe.change(voice)  # refused here, and not in the midst of the work
    places = [folder / f"shard-{shard:03d}" for shard in range(shards)]
    for place in places:
        if not (place / _WHOLE).exists():
            shutil.rmtree(place, ignore_errors=True)
    with ThreadPoolExecutor(workers) as pool:
        work = pool.map(
            lambda shard: _speak_shard(places[shard], scripts, seconds / shards, seed, shard),
            range(shards),
        )
        for place in progress(work, label="speaking", total=shards):
            yield from _read(place)


def _speak_shard(
    folder: Path, scripts: Sequence[Script], seconds: float, seed: int, shard: int
) -> Path:
    """Keep processes speaking until the shard is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    in_vain = 0
    while (said := sum(line["samples"] for line in _lines(folder))) < seconds * SAMPLE_RATE:
        speaker = spawn.Process(target=_speaker, args=(folder, scripts, seconds, seed, shard))
        speaker.start()
        speaker.join()
        if speaker.exitcode is not None and speaker.exitcode > 0:
            refused = folder / _REFUSED
            if refused.exists():
                raise UserError(refused.read_text(encoding="utf-8"))
            raise RuntimeError(f"a process that speaks ended with {speaker.exitcode}; see above")
        in_vain = 0 if sum(line["samples"] for line in _lines(folder)) > said else in_vain + 1
        if in_vain == MOST_TRIES:
            raise UserError(
                f"espeak-ng dies of every utterance ({scripts[0].voices[0]}, ...); "
                "try other voices or texts"
            )
    (folder / _WHOLE).touch()
    return folder


def _speaker(
    folder: Path, scripts: Sequence[Script], seconds: float, seed: int, shard: int
) -> None:
    """What a process does; a mistake of the user is left for the one that waits to tell."""
    (folder / _REFUSED).unlink(missing_ok=True)
    try:
        _fill(folder, scripts, seconds, seed, shard)
    except UserError as error:
        (folder / _REFUSED).write_text(str(error), encoding="utf-8")
        sys.exit(1)


def _fill(folder: Path, scripts: Sequence[Script], seconds: float, seed: int, shard: int) -> None:
    """Go on with a shard behind the last utterance that was tried."""
    tried = folder / _TRIED
    first = int(tried.read_text()) + 1 if tried.exists() else 0
    lines = list(_lines(folder))
    said = sum(line["samples"] for line in lines)
    voice = EspeakVoice(scripts[0].voices[0])
    shares = np.array([script.share for script in scripts])
    in_vain = 0
    write_jsonl(folder / _SAID, lines)  # without half a line of a process that was killed
    with (
        (folder / _SAMPLES).open("ab") as samples,
        (folder / _SAID).open("a", encoding="utf-8") as record,
    ):
        samples.truncate(2 * said)  # what a process that died had not written down
        number = first
        waiting = os.getppid()
        while said < seconds * SAMPLE_RATE:
            if os.getppid() != waiting:
                return  # nobody waits for it any more, and another may be at work in its place
            tried.write_text(str(number))
            rng = numpy_generator(seed, "synthetic utterance", shard, number)
            script = scripts[int(rng.choice(len(scripts), p=shares / shares.sum()))]
            utterance = _say(voice, script, f"{shard:03d}-{number:05d}", rng)
            number += 1
            in_vain = 0 if utterance is not None else in_vain + 1
            if in_vain == 50 * MOST_TRIES:
                raise UserError("espeak-ng: nothing of the text can be said by these voices")
            if utterance is None:
                continue
            samples.write(utterance.samples.astype("<i2").tobytes())
            samples.flush()
            line = {
                "id": utterance.id,
                "samples": len(utterance.samples),
                "phones": [(start.sample, start.phone) for start in utterance.phones],
            }
            record.write(json.dumps(line, ensure_ascii=False) + "\n")
            record.flush()
            said += len(utterance.samples)


def _say(
    voice: EspeakVoice, script: Script, name: str, rng: np.random.Generator
) -> SyntheticUtterance | None:
    """Draw an utterance; None if it comes to nothing."""
    who = str(rng.choice(script.voices))
    if rng.random() >= PLAIN_PROBABILITY:
        who += "+" + str(rng.choice(VARIANTS))
    words = script.lines[int(rng.integers(len(script.lines)))].split()
    count = int(rng.integers(WORDS[0], WORDS[1] + 1))
    first = int(rng.integers(max(1, len(words) - count + 1)))
    manner = Manner(
        int(rng.integers(*WORDS_PER_MINUTE)),
        int(rng.integers(*PITCH)),
        int(rng.integers(*PITCH_RANGE)),
    )
    voice.change(who)
    speech = voice.speak(" ".join(words[first : first + count]), manner)
    spoken = [place for place, start in enumerate(speech.phones) if start.phone]
    if len(spoken) < MIN_PHONES:
        return None
    waveform, stretch = warp(speech.samples, voice.sample_rate, rng)
    return _trim(name, speech, waveform, stretch, spoken, rng)


def _trim(
    name: str,
    speech: Speech,
    waveform: npt.NDArray[np.float32],
    stretch: float,
    spoken: list[int],
    rng: np.random.Generator,
) -> SyntheticUtterance | None:
    """Cut to the speech, with pauses of a length of their own around it."""
    starts = [int(start.sample * stretch) for start in speech.phones] + [len(waveform)]
    first, last = spoken[0], spoken[-1]
    begin, end = starts[first], starts[last + 1]
    if not UTTERANCE_SECONDS[0] <= (end - begin) / SAMPLE_RATE <= UTTERANCE_SECONDS[1]:
        return None
    before, after = (int(pause * SAMPLE_RATE) for pause in rng.exponential(PAUSE_SECONDS, 2))
    padded = np.pad(waveform[begin:end], (before, after))
    phones = [PhoneStart(0, "")]
    phones += [
        PhoneStart(starts[place] - begin + before, speech.phones[place].phone)
        for place in range(first, last + 1)
    ]
    phones.append(PhoneStart(end - begin + before, ""))
    return SyntheticUtterance(name, degrade(padded, rng), phones)


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / _SAID
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def _read(folder: Path) -> Iterator[SyntheticUtterance]:
    samples = np.memmap(folder / _SAMPLES, dtype="<i2", mode="r")
    first = 0
    for line in _lines(folder):
        last = first + line["samples"]
        phones = [PhoneStart(sample, phone) for sample, phone in line["phones"]]
        yield SyntheticUtterance(line["id"], np.array(samples[first:last]), phones)
        first = last
