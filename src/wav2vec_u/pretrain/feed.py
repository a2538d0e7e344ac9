"""Batches of a pack without end, from any place on; a part of the pack is kept to validate on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from wav2vec_u.config import PretrainConfig
from wav2vec_u.pretrain.batches import Batch, epoch_batches
from wav2vec_u.pretrain.pack import AudioPack
from wav2vec_u.pretrain.processes import Processes
from wav2vec_u.pretrain.targets import Targets
from wav2vec_u.runtime.seeds import numpy_generator

VALIDATION_SHARE = 0.1  # of the utterances, at most


class Feed:
    """Batches of a pack, epoch after epoch, from any place on.

    Attributes
    ----------
    epoch : int
    place : int
        Batches of the epoch that are done.
    """

    def __init__(
        self,
        pack: AudioPack,
        targets: Targets | None,
        config: PretrainConfig,
        number: int,
        processes: Processes,
    ) -> None:
        self.pack = pack
        self.targets = targets
        self.train_rows, self.validation_rows = split_rows(pack, config)
        self.epoch = 0
        self.place = 0
        self._config = config
        # Rounds go through the data in other orders.
        self._seed = config.seed + 1_000 * number
        self._processes = processes

    def batches(self) -> Iterator[Batch]:
        """Yield this process's batches from where the training stands."""
        for epoch in count(self.epoch):
            batches = self._epoch(self.train_rows, self._seed, epoch)
            # Every process gets as many batches as the others.
            whole = max(len(batches) // self._processes.size, 1)
            for place in range(self.place, whole):
                self.place = place + 1
                mine = place * self._processes.size + self._processes.rank
                yield batches[mine % len(batches)]
            self.epoch, self.place = epoch + 1, 0

    def validation_batches(self) -> list[Batch]:
        """Return batches of what is never learned from, always the same."""
        return self._epoch(self.validation_rows, self._config.seed, 0)

    def _epoch(self, rows: npt.NDArray[np.int64], seed: int, epoch: int) -> list[Batch]:
        config = self._config
        return epoch_batches(
            rows, self.pack.lengths, config.batch_seconds, config.max_seconds, seed, epoch
        )


def split_rows(
    pack: AudioPack, config: PretrainConfig
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Split the rows of a pack into those to learn from and those to validate on."""
    order = numpy_generator(config.seed, "pretrain", "validation").permutation(len(pack))
    held_out = min(config.validation_utterances, max(1, int(len(pack) * VALIDATION_SHARE)))
    return np.sort(order[held_out:]), np.sort(order[:held_out])
