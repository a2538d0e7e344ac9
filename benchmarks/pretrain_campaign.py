"""Claim: the encoder that ships is made by these commands, without transcripts.

At three sizes (`campaign/sizes.py`): a test of seconds, about two hours on two cores, about
25 minutes on one H100-class GPU. The folder of corpora holds one folder for each, with
``manifest.tsv`` (path, speaker, split, ...); `campaign/recordings.py` says which may be used, and
why. Only recordings of split ``train`` are heard, and transcripts are left behind.

    python benchmarks/pretrain_campaign.py train --size test --out DIR [--corpora DIR]
    python benchmarks/pretrain_campaign.py train --size cpu --out DIR --corpora DIR
    python benchmarks/pretrain_campaign.py train --size gpu --out DIR --corpora DIR --minutes 9

With `--texts` synthetic speech of the texts in a folder is learned from beside the recordings
(`pretrain.spoken`); `base` was made with it.

A size has one step or more, each going on from the encoder of the one before (`step-N` in the
folder); the encoder of the last stands in ``encoder`` in the end.

With `--minutes` the training stops after the first checkpoint beyond that time, with exit code 75;
the same command goes on. Where the machine that trains has no corpora, send it chunks, and fetch
the encoder in shards:

    python benchmarks/pretrain_campaign.py pack --corpora DIR --out CHUNKS
    python benchmarks/pretrain_campaign.py unpack CHUNKS/*.tar --out AUDIO    # there, as they come
    python benchmarks/pretrain_campaign.py train --size gpu --audio AUDIO --out DIR --minutes 9
    python benchmarks/pretrain_campaign.py split DIR/encoder --out SHARDS
    python benchmarks/pretrain_campaign.py join SHARDS --out ENCODER          # here

The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

from campaign.chunks import pack, unpack
from campaign.recordings import Clip, gather, read_unpacked, spread, write_manifests, write_tones
from campaign.shards import join, split
from campaign.sizes import SIZES, Size, Step, with_speech
from wav2vec_u.config import RunConfig
from wav2vec_u.encoder.checkpoint import DESCRIPTION, WEIGHTS, load_description
from wav2vec_u.pretrain.prepare import prepare_input
from wav2vec_u.pretrain.stage import ENCODER_NAME, pretrain
from wav2vec_u.pretrain.train import LOG_NAME, Unfinished
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.runtime.progress import MetricsLog

FAILED = 1
USER_ERROR = 2
UNFINISHED = 75  # as in sysexits.h: try again
MIB = 1 << 20
CHUNK_MIB = 60.0
SHARD_MIB = 16.0
PIECES_NAME = "pieces.jsonl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    given = _parser().parse_args(arguments)
    try:
        code: int = given.run(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    return code


def _train(given: argparse.Namespace) -> int:
    size = SIZES[given.size]
    if given.texts is not None:
        steps = (replace(step, config=with_speech(step.config, given.texts)) for step in size.steps)
        size = replace(size, steps=tuple(steps))
    given.out.mkdir(parents=True, exist_ok=True)
    clips = _clips(given, size)
    started = time.monotonic()
    deadline = None if given.minutes is None else started + 60 * given.minutes
    folders = [given.out / f"step-{number}" for number in range(1, len(size.steps) + 1)]
    finished = True
    start = None
    try:
        for step, folder in zip(size.steps, folders, strict=True):
            _take(step, folder, clips, start, deadline)
            start = folder / ENCODER_NAME
    except Unfinished:
        finished = False
    with MetricsLog(given.out / PIECES_NAME) as log:
        log.write(seconds=round(time.monotonic() - started, 1), finished=finished)
    name = f"pretrain_campaign_{given.size}"
    if not finished:
        print(json.dumps({"name": name, "finished": False, **_pieces(given.out)}))
        return UNFINISHED
    _copy_encoder(folders[-1] / ENCODER_NAME, given.out / ENCODER_NAME)
    figures = [
        _figures(folder, step.config) for folder, step in zip(folders, size.steps, strict=True)
    ]
    print(json.dumps({"name": name, "finished": True, "steps": figures, **_pieces(given.out)}))
    losses = [pair for step_figures in figures for pair in step_figures["validation_by_round"]]
    return 0 if all(last < first for first, last in losses) else FAILED


def _clips(given: argparse.Namespace, size: Size) -> list[Clip]:
    if given.audio is not None:
        clips = read_unpacked(given.audio)
    elif given.corpora is not None:
        clips = gather(given.corpora)
    elif given.size == "test":
        clips = write_tones(given.out / "tones")
    else:
        raise UserError(f"--size {given.size}: needs --corpora or --audio")
    return clips if size.most_clips is None else spread(clips, size.most_clips)


def _take(
    step: Step, folder: Path, clips: Sequence[Clip], start: Path | None, deadline: float | None
) -> None:
    """Pre-train once, from the encoder `start` where there is one."""
    folder.mkdir(exist_ok=True)
    heard = [clip for clip in clips if step.corpora is None or clip.name.startswith(step.corpora)]
    manifests = write_manifests(heard, folder, step.config.threads)
    _prepare(manifests, folder, step.config)
    pretrain(manifests, folder, step.config, start=start, deadline=deadline)


def _copy_encoder(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in (WEIGHTS, DESCRIPTION):
        shutil.copyfile(source / name, target / name)


def _prepare(manifests: Sequence[Path], out: Path, config: RunConfig) -> None:
    # A GPU should not wait for one core that looks for speech. `pretrain` finds this done.
    if len(manifests) == 1:
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.threads, mp_context=spawn) as pool:
        numbers = range(1, len(manifests) + 1)
        list(pool.map(prepare_input, manifests, numbers, repeat(out), repeat(config)))


def _figures(out: Path, config: RunConfig) -> dict[str, Any]:
    """Collect what a finished campaign is about."""
    rounds = [out / f"round-{number + 1}" for number in range(len(config.pretrain.rounds))]
    info = load_description(out / ENCODER_NAME)["info"]
    validation = [
        [line["validation_loss"] for line in read_jsonl(round_ / LOG_NAME) if _validates(line)]
        for round_ in rounds
    ]
    heard = [load_description(round_)["info"]["hours_heard"] for round_ in rounds]
    return {
        "hours": info["hours_audio"],
        "hours_heard": round(sum(heard), 1),
        "updates": info["updates"],
        **{key: value for key, value in info.items() if key.startswith("validation_")},
        # Rounds have targets of their own: only the two losses of one round can be compared.
        "validation_by_round": [(losses[0], losses[-1]) for losses in validation],
        "parameters": info["parameters"],
        "bytes": (out / ENCODER_NAME / WEIGHTS).stat().st_size,
    }


def _validates(line: dict[str, Any]) -> bool:
    return "validation_loss" in line


def _pieces(out: Path) -> dict[str, Any]:
    pieces = list(read_jsonl(out / PIECES_NAME))
    return {"seconds": round(sum(piece["seconds"] for piece in pieces), 1), "pieces": len(pieces)}


def _pack(given: argparse.Namespace) -> int:
    paths = pack(gather(given.corpora), given.out, int(given.max_mib * MIB))
    sizes = [round(path.stat().st_size / MIB, 2) for path in paths]
    print(json.dumps({"name": "pack", "chunks": [str(path) for path in paths], "mib": sizes}))
    return 0


def _unpack(given: argparse.Namespace) -> int:
    missing = unpack(given.chunks, given.out)
    print(json.dumps({"name": "unpack", "folder": str(given.out), "missing": missing}))
    return UNFINISHED if missing else 0


def _split(given: argparse.Namespace) -> int:
    paths = split(given.encoder, given.out, int(given.max_mib * MIB))
    print(json.dumps({"name": "split", "shards": [str(path) for path in paths]}))
    return 0


def _join(given: argparse.Namespace) -> int:
    join(given.shards, given.out)
    print(json.dumps({"name": "join", "encoder": str(given.out)}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train", help="pre-train; goes on where it was stopped")
    command.add_argument("--size", choices=SIZES, required=True)
    command.add_argument("--out", type=Path, required=True)
    source = command.add_mutually_exclusive_group()
    source.add_argument("--corpora", type=Path, help="folder of corpora")
    source.add_argument("--audio", type=Path, help="folder that chunks were unpacked into")
    command.add_argument("--texts", type=Path, help="folder of texts that espeak-ng reads aloud")
    command.add_argument("--minutes", type=float, help="stop at the first checkpoint after them")
    command.set_defaults(run=_train)
    command = commands.add_parser("pack", help="put the recordings into chunks")
    command.add_argument("--corpora", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--max-mib", type=float, default=CHUNK_MIB)
    command.set_defaults(run=_pack)
    command = commands.add_parser("unpack", help="join chunks, as many as there are")
    command.add_argument("chunks", type=Path, nargs="+")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=_unpack)
    command = commands.add_parser("split", help="cut an encoder into shards")
    command.add_argument("encoder", type=Path)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--max-mib", type=float, default=SHARD_MIB)
    command.set_defaults(run=_split)
    command = commands.add_parser("join", help="make an encoder of shards")
    command.add_argument("shards", type=Path)
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=_join)
    return parser


if __name__ == "__main__":
    sys.exit(main())
