"""Earlier generators, kept so that discriminators hear them again.

A generator can walk in circles: away from what its discriminator has just learned to reject, and
back once that is forgotten. Hearing earlier attempts from time to time keeps them rejected
(Shrivastava et al., 2017, *Learning from simulated and unsupervised images through adversarial
training*, section 2.3, keep earlier images; here it is the generators, which are smaller than what
they say).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wav2vec_u.config import GanConfig
from wav2vec_u.runtime.seeds import numpy_generator

STATES = 8  # that are kept


class Replay:
    """The last states of all generators.

    Parameters
    ----------
    generators : dict of Tensor
        (E, ...) each, as they are at first: they stand for what is not kept yet.
    config : GanConfig
    seed : int
    """

    def __init__(self, generators: dict[str, Tensor], config: GanConfig, seed: int) -> None:
        self._share = config.replay
        self._every = config.replay_every
        self._seed = seed
        self._kept = {
            name: value.detach().expand(STATES, *value.shape).clone()  # (STATES, E, ...)
            for name, value in generators.items()
        }

    @torch.no_grad()
    def keep(self, update: int, generators: dict[str, Tensor]) -> None:
        """Keep the generators as they are before an update, if it is time to."""
        if update % self._every == 0:
            place = update // self._every % STATES
            for name, value in generators.items():
                self._kept[name][place] = value

    def pick(self, update: int) -> dict[str, Tensor] | None:
        """Return earlier generators, (E, ...) each, for this update, or None for those of now."""
        rng = numpy_generator(self._seed, "replay", update)
        if rng.random() >= self._share:
            return None
        place = int(rng.integers(STATES))
        return {name: value[place] for name, value in self._kept.items()}

    def replace(self, slot: int, state: dict[str, Tensor]) -> None:
        """Put a new member in the place of another, as if it had been there from the beginning."""
        for name, value in self._kept.items():
            value[:, slot] = state[name].to(value.device)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold."""
        return dict(self._kept)

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        for name, value in self._kept.items():
            value.copy_(state[name])
