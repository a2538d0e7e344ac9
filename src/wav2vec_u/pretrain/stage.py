"""``wav2vec-u pretrain``: audio in, an encoder of our own out; goes on where it was stopped.

The folder tells the story: ``corpus-1``, ``silence-1`` (a pair for each input), ``pack``, then
``targets-1``, ``round-1``, ``targets-2``, ... and in the end ``encoder`` and ``metrics.json``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from wav2vec_u.config import PretrainConfig, RunConfig
from wav2vec_u.encoder.checkpoint import (
    is_encoder,
    load_description,
    load_network,
    save_encoder,
)
from wav2vec_u.encoder.deepen import deepen
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.encoder.shipped import find_encoder
from wav2vec_u.pretrain.pack import AudioPack
from wav2vec_u.pretrain.prepare import (
    PACK_NAME,
    SPOKEN_NAME,
    prepare,
    round_targets,
    spoken_speech,
)
from wav2vec_u.pretrain.processes import Processes
from wav2vec_u.pretrain.spoken import SpokenSpeech
from wav2vec_u.pretrain.targets import Targets, block_frames
from wav2vec_u.pretrain.train import CHECKPOINT_NAME, NotFinite, check_time, train_round
from wav2vec_u.runtime import artifact
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.checkpoint import load_checkpoint
from wav2vec_u.runtime.device import pick_device
from wav2vec_u.runtime.disk import explain_disk_errors
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json
from wav2vec_u.runtime.inputs import stamp_files
from wav2vec_u.runtime.seeds import torch_generator

ENCODER_NAME = "encoder"
LAST_GOOD_NAME = "last-good"
METRICS_NAME = "metrics.json"
_COST = "seconds_total"
# Settings that change how fast the same result is reached, and not the result.
_CONVENIENCE = {"device", "log_every", "checkpoint_every"}
# What is said is known by the artefact `spoken`, wherever the texts stand.
_NOT_OF_A_ROUND: dict[str, Any] = {
    **dict.fromkeys([*_CONVENIENCE, "rounds"], True),
    "spoken": {"scripts"},
}


def pretrain(
    audio: Sequence[Path],
    out: Path,
    config: RunConfig,
    start: Path | None = None,
    deadline: float | None = None,
) -> dict[str, Any]:
    """Pre-train an encoder.

    Parameters
    ----------
    audio : sequence of Path
        Folders or manifests. Only recordings of split ``train`` are heard; where an input names no
        splits, all are.
    out : Path
        Folder of the training; the encoder stands in ``out/encoder`` in the end.
    config : RunConfig
        `corpus`, `silence` and `pretrain` are used.
    start : Path or None
        Encoder to go on from, instead of random weights, ``base`` being the one that ships; the
        shape of the network is its own, but for `added_blocks`.
    deadline : float or None
        On the clock of `time.monotonic`, seconds: stop after the first checkpoint, or before the
        first round, that comes later.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    UserError
        If the audio is missing or too little, another process works in `out`, or the loss is no
        longer a number.
    Unfinished
        If the deadline has passed; the same call goes on where this one stopped.
    """
    start = None if start is None else find_encoder(str(start)) or start
    with Processes() as processes, _lock(out, processes):
        device = _device(config.pretrain.device, processes)
        torch.set_num_threads(config.threads)
        # Before the audio is decoded, which may take hours: what cannot be met is said at once.
        network = _untrained(config.pretrain, start).to(device)
        _check_rounds(config.pretrain, network)
        processes.first_does(lambda: prepare(audio, out, config))
        pack = AudioPack(out / PACK_NAME)
        spoken = spoken_speech(out, config, processes)
        made_from = "" if start is None else stamp_files(sorted(start.iterdir()))
        figures: dict[str, float] = {}
        for number in range(len(config.pretrain.rounds)):
            check_time(deadline, processes)
            targets = round_targets(
                out, pack, network, config.pretrain, number, made_from, processes
            )
            figures = _round(
                out,
                pack,
                network,
                targets,
                spoken,
                config.pretrain,
                number,
                made_from,
                processes,
                deadline,
            )
            made_from = artifact.identity(out / f"round-{number + 1}")
        metrics = {
            "hours_audio": round(pack.hours, 3),
            "utterances": len(pack),
            "parameters": sum(weight.numel() for weight in network.parameters()),
            "updates": sum(round_.updates for round_ in config.pretrain.rounds),
            **figures,
            _COST: round(_seconds(out), 1),
        }
        info = {
            **metrics,
            "seed": config.pretrain.seed,
            "objective": config.pretrain.objective,
            "rounds": [round_.model_dump() for round_ in config.pretrain.rounds],
        }

        def finish() -> None:
            with explain_disk_errors(out):
                # Left alone where it stands: runs know an encoder by the times of its files.
                if not _holds(out / ENCODER_NAME, network, info):
                    save_encoder(out / ENCODER_NAME, network, info)
                write_json(out / METRICS_NAME, metrics)

        processes.first_does(finish)
    return metrics


def _round(
    out: Path,
    pack: AudioPack,
    network: SpeechNetwork,
    targets: Targets | None,
    spoken: SpokenSpeech | None,
    config: PretrainConfig,
    number: int,
    made_from: str,
    processes: Processes,
    deadline: float | None,
) -> dict[str, float]:
    """Train a round, or load what an earlier run made of it; `network` is changed."""
    folder = out / f"round-{number + 1}"
    inputs = {
        "pack": artifact.identity(out / PACK_NAME),
        "targets": artifact.identity(out / f"targets-{number + 1}"),
        "network": made_from,
    }
    if spoken is not None:
        inputs["spoken"] = artifact.identity(out / SPOKEN_NAME)
    expected = artifact.fingerprint(
        schema=artifact.SCHEMA,
        number=number,
        round=config.rounds[number],
        config=config.model_dump(mode="json", exclude=_NOT_OF_A_ROUND),
        processes=processes.size,
        inputs=inputs,
    )
    done = processes.all_true(artifact.is_current(folder, expected))
    if not done:
        with _shared_work(folder, expected, config, inputs, processes) as (unfinished, work):
            try:
                figures = train_round(
                    network,
                    pack,
                    targets,
                    config,
                    number,
                    unfinished,
                    processes,
                    deadline,
                    spoken,
                )
            except NotFinite as error:
                if work is None or not _keep_last_good(out, unfinished, network):
                    raise
                raise UserError(
                    f"{error}, and go on in another --out with --start {out / LAST_GOOD_NAME}"
                ) from error
            if work is not None:
                save_encoder(unfinished, network, figures)
                (unfinished / CHECKPOINT_NAME).unlink()
                work.counts.update(figures)
        processes.barrier()
    # From the disk in any case: a run that was stopped between two rounds must end like another.
    network.load_state_dict(load_network(folder).state_dict())
    return dict(load_description(folder)["info"])


def _keep_last_good(out: Path, unfinished: Path, network: SpeechNetwork) -> bool:
    """Save the network of the last checkpoint as an encoder; False if there is none that is good.

    The checkpoint itself can only be gone on from with the settings that led to the failure.
    """
    path = unfinished / CHECKPOINT_NAME
    if not path.exists():
        return False
    prefix = "network."
    weights = {
        name.removeprefix(prefix): value
        for name, value in load_checkpoint(path)["model"].items()
        if name.startswith(prefix)
    }
    if not all(bool(value.half().isfinite().all()) for value in weights.values()):
        return False  # the update before the failure had already broken it
    network.load_state_dict(weights)
    save_encoder(out / LAST_GOOD_NAME, network, {"stopped": "the loss was not a number"})
    return True


@contextmanager
def _shared_work(
    folder: Path,
    expected: str,
    config: PretrainConfig,
    inputs: dict[str, str],
    processes: Processes,
) -> Iterator[tuple[Path, Work | None]]:
    """Open an artefact in the first process; the others may read what stands in it."""
    if not processes.first:
        processes.barrier()
        yield artifact.partial_path(folder), None
        return
    with artifact.create(
        folder, stage="pretrain", expected=expected, config=config, inputs=inputs, resumable=True
    ) as work:
        processes.barrier()
        yield work.folder, work


def _check_rounds(config: PretrainConfig, network: SpeechNetwork) -> None:
    if config.objective == "contrastive":
        return
    for round_ in config.rounds:
        if round_.targets != "mfcc":
            block_frames(network, round_.targets)  # refuses a block that there is not


def _holds(folder: Path, network: SpeechNetwork, info: dict[str, Any]) -> bool:
    """Tell whether a folder holds just this encoder, whatever it cost to make."""
    if not is_encoder(folder):
        return False
    try:
        held = load_network(folder).state_dict()
        held_info = load_description(folder).get("info") or {}
    except UserError:
        return False
    weights = network.state_dict()
    return {**held_info, _COST: None} == {**info, _COST: None} and all(
        name in weights and torch.equal(value, weights[name].cpu()) for name, value in held.items()
    )


def _untrained(config: PretrainConfig, start: Path | None) -> SpeechNetwork:
    if start is not None:
        return deepen(load_network(start), config.added_blocks, config.seed)
    if config.added_blocks:
        raise UserError(
            "pretrain.added_blocks: there is no --start to add them to; set network.blocks"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(config.seed, "network").initial_seed())
        return SpeechNetwork(config.network)


def _device(name: str, processes: Processes) -> torch.device:
    device = pick_device(name)
    if device.type == "cuda" and processes.size > 1:
        return torch.device("cuda", processes.local_rank)
    return device


def _seconds(out: Path) -> float:
    records = [artifact.read_record(path.parent) for path in out.glob(f"*/{artifact.RECORD_NAME}")]
    return sum(record.seconds for record in records if record is not None)


@contextmanager
def _lock(out: Path, processes: Processes) -> Iterator[None]:
    if not processes.first:
        yield
        return
    with explain_disk_errors(out.parent):
        out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"{out}: another process pre-trains in this folder; wait for it, or give another --out"
        ) from error
