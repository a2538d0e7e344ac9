"""Members that are trained side by side as one program.

The weights of all generators, and those of all discriminators, are stacked. A member's result is
that of the same member trained alone: no sum goes over members, and the utterances, sentences and
random draws of an update are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, vmap

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.gan.adam import StackedAdamW, clip
from wav2vec_u.matching.gan.auxiliary import CodeGenerator, code_loss
from wav2vec_u.matching.gan.critics import Critics, Text
from wav2vec_u.matching.gan.discriminator import Discriminator
from wav2vec_u.matching.gan.feed import Feed, Row
from wav2vec_u.matching.gan.hyperparameters import choose, stack
from wav2vec_u.matching.gan.layout import Layout, join
from wav2vec_u.matching.gan.networks import make_discriminator, make_networks, start_of
from wav2vec_u.matching.gan.objective import Generated, Objective, PaperObjective, perplexity
from wav2vec_u.matching.gan.relativistic import RelativisticObjective
from wav2vec_u.matching.gan.replay import Replay
from wav2vec_u.matching.gan.statistics_objective import StatisticsObjective
from wav2vec_u.matching.gan.text_statistics import TextStatistics
from wav2vec_u.matching.gan.turns import Turns
from wav2vec_u.matching.selection import Candidate
from wav2vec_u.runtime.seeds import torch_generator

OBJECTIVES: dict[str, Callable[[TextStatistics], Objective]] = {
    "paper": PaperObjective,
    "relativistic": RelativisticObjective,
    "statistics": StatisticsObjective,
}


class Ensemble:
    """Generators and discriminators of several members.

    Parameters
    ----------
    numbers : list of int
        Of the members; a member's first weights and settings depend on its number alone.
    feed : Feed
    config : GanConfig
    device : torch.device
    start : dict of Tensor or None
        State of a `Generator` where every second member starts from (`networks.start_of`).
    """

    def __init__(
        self,
        numbers: list[int],
        feed: Feed,
        config: GanConfig,
        device: torch.device,
        start: dict[str, Tensor] | None,
    ) -> None:
        self.numbers = list(numbers)
        self._feed = feed
        self._config = config
        self._device = device
        self._start = start
        self._first = frozenset(numbers)
        self._joins = config.segmenter in ("join", "uniform_join")
        self._turns = Turns(config, started=start is not None)
        statistics = feed.text_statistics(device)
        self._objective: Objective = OBJECTIVES[config.objective](statistics)
        self._warm_up = StatisticsObjective(statistics)
        made = [self._make(number) for number in numbers]
        self._template = made[0][0]
        # Buffers (of a batch norm) are no parameters: the optimiser leaves them alone.
        learned = dict(self._template.named_parameters())
        states = [generator.state_dict() for generator, _ in made]
        stacked = {
            name: torch.stack([state[name] for state in states]).to(device) for name in states[0]
        }
        self._generators = {name: value for name, value in stacked.items() if name in learned}
        self._buffers = {name: value for name, value in stacked.items() if name not in learned}
        self._critics = Critics.stack([discriminator for _, discriminator in made])
        self._critics = Critics(
            [value.to(device) for value in self._critics.weights],
            [value.to(device) for value in self._critics.biases],
        )
        self._weights = stack([choose(config, number) for number in numbers], device)
        self._generator_optimizer = StackedAdamW(list(self._generators.values()), 0.0)
        self._discriminator_optimizer = StackedAdamW(
            self._critics.parameters(), config.discriminator_weight_decay
        )
        self._replay = Replay(self._generators, config, feed.seed) if config.replay else None

    def step(self, update: int) -> dict[str, Tensor]:
        """Do one update of one of the two networks of every member.

        Returns
        -------
        dict of Tensor
            (E,) each, detached: the weighted terms of the loss, the norm of the gradient before
            clipping, and in generator updates the perplexity of the batch's mean distribution.
        """
        of_discriminator = self._turns.of_discriminator(update)
        if self._turns.resets(update):
            self._reset_discriminators(update)
        generators = self._generators
        if self._replay is not None:
            self._replay.keep(update, self._generators)
            earlier = self._replay.pick(update) if of_discriminator else None
            generators = generators if earlier is None else earlier
        rng = torch_generator(self._feed.seed, "step", update, device=str(self._device))
        row = Row.of(
            *self._feed.speech(update),
            self._config.generator_kernel,
            self._config.generator_stride,
            None if of_discriminator else self._feed.codes(update),
        ).to(self._device)
        parameters = (
            self._critics.parameters() if of_discriminator else list(self._generators.values())
        )
        for value in parameters:
            value.requires_grad_(True)
        try:
            generated, code_logits = self._generate(row, rng, generators)
            ids, mask = self._feed.text(update)
            text = Text.of(ids, mask, self._critics.kernel, self._critics.n_symbols)
            text = text.to(self._device)
            if of_discriminator:
                alpha = torch.rand(len(ids), generator=rng, device=self._device)
                terms = self._objective.critic_terms(
                    self._critics, generated, text, self._weights, alpha
                )
            else:
                objective = self._warm_up if self._turns.warms_up(update) else self._objective
                terms = objective.generator_terms(self._critics, generated, text, self._weights)
                if code_logits is not None and row.codes is not None:
                    loss_of_codes = code_loss(code_logits, row.codes)
                    terms["auxiliary"] = self._weights.auxiliary * loss_of_codes
            loss = torch.stack(list(terms.values())).sum()
            gradients = list(torch.autograd.grad(loss, parameters, materialize_grads=True))
        finally:
            for value in parameters:
                value.requires_grad_(False)
        gradients, norm = clip(gradients, self._config.clip_norm)
        if of_discriminator:
            self._discriminator_optimizer.step(gradients, self._weights.discriminator_lr)
        else:
            self._generator_optimizer.step(gradients, self._weights.generator_lr)

        side = "discriminator" if of_discriminator else "generator"
        figures = {f"{side}_{name}": value.detach() for name, value in terms.items()}
        figures[f"{side}_gradient_norm"] = norm
        if not of_discriminator:
            logits = generated.logits.detach()
            figures["perplexity"] = perplexity(logits.softmax(-1), generated.layout)
        return figures

    @torch.no_grad()
    def candidates(self) -> list[Candidate]:
        """Transcribe the scored utterances with every generator as it is now."""
        said: list[list[NDArray[np.int64]]] = [[] for _ in self.numbers]
        log_probs = torch.zeros(len(self.numbers), dtype=torch.double)
        for vectors, mask in self._feed.scored():
            row = Row.of(
                vectors, mask, self._config.generator_kernel, self._config.generator_stride
            ).to(self._device)
            (logits, layout), _ = self._generate(row, None, self._generators)
            best = logits.log_softmax(-1).max(-1)  # (E, N)
            log_probs += best.values.masked_fill(~layout.valid, 0.0).double().sum(1).cpu()
            for member, (ids, lengths) in enumerate(
                zip(best.indices.cpu().numpy(), layout.lengths.cpu().numpy(), strict=True)
            ):
                ends = np.cumsum(lengths)
                pieces = np.split(ids[: ends[-1]], ends[:-1])
                said[member] += [piece[piece > 0] for piece in pieces]  # silence is 0
        pairs = zip(said, log_probs.tolist(), strict=True)
        return [Candidate(hypotheses, log_prob) for hypotheses, log_prob in pairs]

    def generator_state(self, slot: int) -> dict[str, Tensor]:
        """Return a copy of a generator's weights, on the CPU."""
        state = {**self._generators, **self._buffers}
        return {name: value[slot].detach().cpu().clone() for name, value in state.items()}

    def replace(self, slot: int, number: int) -> None:
        """Put a new member in the place of another."""
        generator, discriminator = self._make(number)
        state = generator.state_dict()
        for name, value in (self._generators | self._buffers).items():
            value[slot] = state[name].to(value.device)
        if self._replay is not None:
            self._replay.replace(slot, state)
        self._generator_optimizer.reset(slot)
        self._set_discriminator(slot, discriminator)
        self.numbers[slot] = number
        choices = [choose(self._config, each) for each in self.numbers]
        self._weights = stack(choices, self._device)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold."""
        return {
            "numbers": self.numbers,
            "generators": self._generators | self._buffers,
            "discriminators": self._critics.parameters(),
            "generator_optimizer": self._generator_optimizer.state(),
            "discriminator_optimizer": self._discriminator_optimizer.state(),
            "replay": {} if self._replay is None else self._replay.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.numbers = list(state["numbers"])
        for name, value in (self._generators | self._buffers).items():
            value.copy_(state["generators"][name])
        saved = state["discriminators"]
        for value, given in zip(self._critics.parameters(), saved, strict=True):
            value.copy_(given)
        self._generator_optimizer.load(state["generator_optimizer"])
        self._discriminator_optimizer.load(state["discriminator_optimizer"])
        if self._replay is not None:
            self._replay.load(state["replay"])
        choices = [choose(self._config, each) for each in self.numbers]
        self._weights = stack(choices, self._device)

    def _set_discriminator(self, slot: int, discriminator: Discriminator) -> None:
        """Let a member go on with a discriminator that has learned nothing."""
        fresh = Critics.stack([discriminator])
        for value, given in zip(self._critics.parameters(), fresh.parameters(), strict=True):
            value[slot] = given[0].to(value.device)
        self._discriminator_optimizer.reset(slot)

    def _reset_discriminators(self, update: int) -> None:
        feed = self._feed
        for slot, number in enumerate(self.numbers):
            self._set_discriminator(
                slot, make_discriminator(self._config, feed.n_phones, feed.seed, number, update)
            )

    def _make(self, number: int) -> tuple[Any, Discriminator]:
        feed = self._feed
        start = start_of(self._start, number, self._first)
        return make_networks(
            self._config, feed.dim, feed.n_phones, feed.n_phones, feed.seed, number, start
        )

    def _generate(
        self, row: Row, rng: torch.Generator | None, generators: dict[str, Tensor]
    ) -> tuple[Generated, Tensor | None]:
        """Say what all generators make of a row; `rng` None means evaluation.

        Returns
        -------
        generated : Generated
        code_logits : Tensor or None
            (E, L, C) of `CodeGenerator`, if they are such.
        """
        self._template.train(rng is not None)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            said, beside = functional_call(
                self._template, (parameters, buffers), (row.vectors, row.mask, rng)
            )
            return said[0], beside[0]

        # The row is the same for all: their convolutions become one with E times the channels.
        logits, beside = vmap(one, randomness="same")(generators, self._buffers)  # (E, L, V)
        logits = logits.index_select(1, row.outputs)  # (E, N, V)
        code_logits = beside if isinstance(self._template, CodeGenerator) else None
        layout = Layout(*(part.expand(len(logits), -1) for part in row.layout))
        if not self._joins:
            return Generated(logits, layout), code_logits
        draw = None
        if rng is not None:
            draw = torch.rand(logits.shape[1], generator=rng, device=self._device)
        return Generated(*join(logits, layout, draw)), code_logits
