"""One process, or several started by torchrun that train one model together."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from datetime import timedelta

import torch
from torch import distributed, nn

# The others wait while the first decodes the audio or clusters it, which may take hours.
PATIENCE = timedelta(days=7)


class Processes:
    """The processes of a training, as torchrun's environment describes them.

    Used as a context manager: entering joins the group, leaving it goes.

    Attributes
    ----------
    rank, size : int
        Number of this process, and how many there are.
    local_rank : int
        Number of this process on its machine, which is that of its GPU.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def __enter__(self) -> Processes:
        if self.size > 1:
            # Functions of this module have the group of the moment of import as a default. Imported
            # later, as an optimiser does, it would keep the group and its threads alive while the
            # interpreter ends, which may abort the process.
            importlib.import_module("torch.distributed.nn")
            backend = "gloo"
            if torch.cuda.is_available():
                backend = "cpu:gloo,cuda:nccl"
                # There may be more processes than GPUs where these are not to be used.
                if self.local_rank < torch.cuda.device_count():
                    torch.cuda.set_device(self.local_rank)
            distributed.init_process_group(backend, timeout=PATIENCE)
        return self

    def __exit__(self, *error: object) -> None:
        if self.size > 1:
            distributed.destroy_process_group()

    def share(self, model: nn.Module) -> None:
        """Give every process the weights of the first."""
        if self.size == 1:
            return
        for value in [*model.parameters(), *model.buffers()]:
            distributed.broadcast(value.detach(), 0)

    def average_gradients(self, model: nn.Module) -> None:
        """Replace the gradients by their means over the processes.

        Once an update, on all gradients as one vector: networks of this size gain nothing from
        what `DistributedDataParallel` sends while the backward pass still runs.
        """
        if self.size == 1:
            return
        # What has no gradient here, such as a block that layer drop passed over, may have one
        # elsewhere; where it has none anywhere, the optimiser must leave the weight alone.
        weights = list(model.parameters())
        used = torch.tensor([weight.grad is not None for weight in weights])
        gradients = [
            torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights
        ]
        together = torch.cat(
            [used.to(gradients[0]), *(gradient.flatten() for gradient in gradients)]
        )
        distributed.all_reduce(together)
        sizes = [len(weights), *(gradient.numel() for gradient in gradients)]
        uses, *sums = torch.split(together, sizes)
        for weight, times, total in zip(weights, uses.tolist(), sums, strict=True):
            weight.grad = total.view_as(weight) / self.size if times else None

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.all_true(True)

    def all_true(self, condition: bool) -> bool:
        """Tell whether a condition holds in every process."""
        if self.size == 1:
            return condition
        flag = torch.tensor(int(condition))
        distributed.all_reduce(flag, op=distributed.ReduceOp.MIN)
        return bool(flag.item())

    def first_does(self, work: Callable[[], None]) -> None:
        """Let the first process work while the others wait; a failure stops them all."""
        failure: Exception | None = None
        if self.first:
            try:
                work()
            except Exception as error:
                failure = error
        if not self.all_true(failure is None):
            raise failure or RuntimeError("the first process failed; its message says why")
