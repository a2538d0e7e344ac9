"""Several processes train one model: started by torchrun, on a corpus of seconds."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from songs import write_songs
from tiny_pretrain import TINY

from wav2vec_u.config import load_config
from wav2vec_u.encoder.checkpoint import load_network
from wav2vec_u.pretrain.processes import Processes
from wav2vec_u.pretrain.stage import pretrain as run_pretrain
from wav2vec_u.runtime.errors import UserError

SETTINGS: dict[str, Any] = {
    "threads": 1,
    "silence": {"method": "none"},
    "pretrain": {
        "device": "cpu",
        "network": TINY.model_dump(),
        "rounds": [
            {"targets": "mfcc", "clusters": 6, "updates": 8},
            {"targets": 1, "clusters": 6, "updates": 4},
        ],
        "batch_seconds": 4.0,
        "learning_rate": 1e-3,
        "log_every": 2,
        "validate_every": 100,
    },
}
# Forks, so that torch is imported once: the first process fails while the second waits for it.
FAILURE = """
import os
from wav2vec_u.pretrain.processes import Processes

def fail():
    raise OSError("told by the first")

os.environ |= {"WORLD_SIZE": "2", "RANK": str(int(os.fork() == 0))}
with Processes() as processes:
    processes.barrier()
    agreed = [processes.all_true(condition) for condition in (True, processes.first)]
    try:
        processes.first_does(fail)
    except Exception as error:
        said = f"{processes.rank} {agreed} {type(error).__name__}: {error}"
        open(f"said-{processes.rank}", "w").write(said)
"""
# Gradients: (1, 2, 3) and (11, 12, 13) for the one weight; for the second (5, 5), in one process;
# for the third none.
AVERAGE = """
import gc, json, os, weakref
import torch
from torch import distributed, nn
from wav2vec_u.pretrain.processes import Processes

os.environ |= {"WORLD_SIZE": "2", "RANK": str(int(os.fork() == 0))}
with Processes() as processes:
    rank = processes.rank
    first, second = torch.full((3,), rank + 7.0), torch.full((2,), rank + 7.0)
    model = nn.ParameterList([first, second, torch.ones(1)])
    processes.share(model)
    model[0].grad = torch.tensor([1.0, 2.0, 3.0]) + 10 * rank
    if rank == 1:
        model[1].grad = torch.full((2,), 5.0)
    processes.average_gradients(model)
    torch.optim.AdamW(model.parameters(), lr=0.0).step()
    group = weakref.ref(distributed.group.WORLD)
gc.collect()
open(f"said-{rank}", "w").write(json.dumps({
    "weights": [weight.tolist() for weight in model],
    "gradients": [None if weight.grad is None else weight.grad.tolist() for weight in model],
    "group_lives": group() is not None,
}))
"""


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    manifest = write_songs(tmp_path, n_train=16, n_test=2)
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    alone, together = tmp_path / "alone", tmp_path / "together"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launcher, "-m", "wav2vec_u", "pretrain"]
    command += ["--audio", str(manifest), "--out", str(together), "--config", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr

    one = run_pretrain([manifest], alone, load_config(settings))
    two = json.loads((together / "metrics.json").read_text())
    # Two batches an update, not one: twice as much is heard, and the loss is about the same.
    assert two["validation_loss"] == pytest.approx(one["validation_loss"], rel=0.1)
    assert two["hours_heard"] == pytest.approx(2 * one["hours_heard"], rel=0.2)
    assert two["updates"] == one["updates"] == 12
    for number, updates in ((1, 8), (2, 4)):
        lines = (together / f"round-{number}" / "log.jsonl").read_text().splitlines()
        log = [json.loads(line) for line in lines]
        trained = [line["update"] for line in log if "loss" in line]
        assert trained == list(range(2, updates + 1, 2)), "one process writes the log"
        assert [line["update"] for line in log if "validation_loss" in line] == [updates]
    weights, other = (load_network(out / "encoder").state_dict() for out in (together, alone))
    assert not torch.equal(weights["mask_vector"], other["mask_vector"])
    assert not list(together.glob("*.partial"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_agree_and_a_failure_of_the_first_ends_all(tmp_path: Path) -> None:
    _run_two(FAILURE, tmp_path)
    assert (tmp_path / "said-0").read_text() == "0 [True, False] OSError: told by the first"
    assert (tmp_path / "said-1").read_text().startswith("1 [True, False] RuntimeError: the first")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_gradients_are_averaged_and_the_group_ends(tmp_path: Path) -> None:
    _run_two(AVERAGE, tmp_path)
    for rank in (0, 1):
        said = json.loads((tmp_path / f"said-{rank}").read_text())
        assert said["weights"] == [[7.0] * 3, [7.0] * 2, [1.0]]
        assert said["gradients"] == [[6.0, 7.0, 8.0], [2.5, 2.5], None]
        # Its threads would run on while the interpreter ends, which may abort the process.
        assert not said["group_lives"]


# -- in one process


def test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    model = torch.nn.Linear(2, 2)
    with Processes() as processes:
        assert (processes.rank, processes.size, processes.local_rank) == (0, 1, 0)
        assert processes.first
        weight = model.weight.detach().clone()
        processes.share(model)
        processes.average_gradients(model)
        assert torch.equal(model.weight, weight) and model.weight.grad is None
        processes.barrier()
        assert processes.all_true(True) and not processes.all_true(False)
        done: list[int] = []
        processes.first_does(lambda: done.append(1))
        assert done == [1]
    assert not torch.distributed.is_initialized()


def test_places_are_those_that_torchrun_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    processes = Processes()
    assert (processes.rank, processes.size, processes.local_rank) == (5, 8, 1)
    assert not processes.first


def test_a_failure_is_told_as_it_is() -> None:
    def fail() -> None:
        raise UserError("no audio")

    with pytest.raises(UserError, match="no audio"):
        Processes().first_does(fail)


# -- helpers


def _run_two(script: str, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **place}, cwd=folder, timeout=100
    )
    deadline = time.monotonic() + 30  # the other process may end a little later
    while not (folder / "said-1").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
