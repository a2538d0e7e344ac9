"""The published code's update, its habits included, one member after the other.

For comparison with published numbers, and as the baseline of our own speed
(`matching.gan.reference: true`). What differs from `objective.py`:

* batches are padded, and the padding counts: the gradient penalty takes its norm over *time*, once
  a symbol, sums over the symbols, and also sees the padding (uniform distributions of the
  generator, `<pad>` of the text); the padding's distributions enter the batch mean and raise its
  perplexity; the squared differences of neighbours are divided by the padded length;
* four special symbols stand among the outputs, as in fairseq's dictionary, and an even kernel gives
  one output more than there are inputs;
* gradients of both networks are computed in every update, and the norm of both together is clipped;
* text is drawn with replacement, and the silence of a sentence once.

The published code sums over the batch and divides the gradient by its size at the end: that is the
mean over utterances written here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.gan.adam import BETAS, EPS
from wav2vec_u.matching.gan.discriminator import Discriminator, FusedLayer
from wav2vec_u.matching.gan.feed import Feed
from wav2vec_u.matching.gan.hyperparameters import Choice, choose
from wav2vec_u.matching.gan.networks import make_networks, start_of
from wav2vec_u.matching.gan.objective import diversity_penalty
from wav2vec_u.matching.gan.turns import Turns
from wav2vec_u.matching.selection import Candidate
from wav2vec_u.runtime.seeds import torch_generator

SPECIALS = 4  # <s>, <pad>, </s> and <unk>, behind the phones here
PAD = 1  # the second of them


class Padded(NamedTuple):
    """Logits or one-hot text (B, T, V) and the mask (B, T), True before the padding."""

    values: Tensor
    mask: Tensor


class ReferenceMembers:
    """Members that the published way trains; has what `ensemble.Ensemble` has.

    See there for the parameters.
    """

    def __init__(
        self,
        numbers: list[int],
        feed: Feed,
        config: GanConfig,
        device: torch.device,
        start: dict[str, Tensor] | None,
    ) -> None:
        self._arguments = (feed, config, device)
        self._start = start
        self._first = frozenset(numbers)
        # The same for all, also for those that begin from nothing beside started ones.
        self._turns = Turns(config, started=start is not None)
        self._members = [self._make(number) for number in numbers]

    @property
    def numbers(self) -> list[int]:
        """Of the members."""
        return [member.number for member in self._members]

    def step(self, update: int) -> dict[str, Tensor]:
        """Do one update of every member; figures are (E,)."""
        figures = [member.step(update) for member in self._members]
        return {name: torch.stack([each[name] for each in figures]) for name in figures[0]}

    def candidates(self) -> list[Candidate]:
        """Transcribe the scored utterances with every generator as it is now."""
        return [member.candidate() for member in self._members]

    def generator_state(self, slot: int) -> dict[str, Tensor]:
        """Return a copy of a generator's weights for the phones, on the CPU."""
        member = self._members[slot]
        return dict(member.generator.only(member.n_phones).state_dict())

    def replace(self, slot: int, number: int) -> None:
        """Put a new member in the place of another."""
        self._members[slot] = self._make(number)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold."""
        return {"numbers": self.numbers, "members": [each.state() for each in self._members]}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self._members = [self._make(number) for number in state["numbers"]]
        for member, saved in zip(self._members, state["members"], strict=True):
            member.load(saved)

    def _make(self, number: int) -> ReferenceMember:
        start = start_of(self._start, number, self._first)
        return ReferenceMember(number, *self._arguments, start, self._turns)


class ReferenceMember:
    """One member: two networks and their optimisers."""

    def __init__(
        self,
        number: int,
        feed: Feed,
        config: GanConfig,
        device: torch.device,
        start: dict[str, Tensor] | None,
        turns: Turns,
    ) -> None:
        self.number = number
        self.n_phones = feed.n_phones
        self.n_symbols = feed.n_phones + SPECIALS
        self._feed = feed
        self._config = config
        self._device = device
        self._choice = choose(config, number)
        self._turns = turns
        self.generator, self.discriminator = make_networks(
            config, feed.dim, self.n_symbols, self.n_phones, feed.seed, number, start
        )
        self.generator.to(device)
        self.discriminator.to(device)
        # fairseq's Adam decays weights apart from the gradient: AdamW.
        self._generator_optimizer = torch.optim.AdamW(
            self.generator.parameters(),
            lr=self._choice.generator_lr,
            betas=BETAS,
            eps=EPS,
            weight_decay=0.0,
        )
        self._discriminator_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(),
            lr=self._choice.discriminator_lr,
            betas=BETAS,
            eps=EPS,
            weight_decay=config.discriminator_weight_decay,
        )

    def step(self, update: int) -> dict[str, Tensor]:
        """Do one update of one of the two networks; figures as those of `Ensemble.step`."""
        config, batch = self._config, self._feed
        rng = torch_generator(batch.seed, "step", update, device=str(self._device))
        of_discriminator = self._turns.of_discriminator(update)
        self.generator.train()
        self._generator_optimizer.zero_grad(set_to_none=True)
        self._discriminator_optimizer.zero_grad(set_to_none=True)
        vectors, mask = (part.to(self._device) for part in batch.speech(update))
        generated = self._generate(vectors, mask, rng)
        if of_discriminator:
            real = self.real(update)
            terms = discriminator_objective(self.discriminator, generated, real, self._choice, rng)
        else:
            terms = generator_objective(self.discriminator, generated, self._choice)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        both = [*self.generator.parameters(), *self.discriminator.parameters()]
        norm = torch.nn.utils.clip_grad_norm_(both, config.clip_norm)
        side = "discriminator" if of_discriminator else "generator"
        if of_discriminator:
            self._discriminator_optimizer.step()
        else:
            self._generator_optimizer.step()
        figures = {f"{side}_{name}": value.detach() for name, value in terms.items()}
        figures[f"{side}_gradient_norm"] = norm.detach()
        if not of_discriminator:
            figures["perplexity"] = perplexity(generated.values.detach().softmax(-1))
        return figures

    @torch.no_grad()
    def candidate(self) -> Candidate:
        """Transcribe the scored utterances with the generator as it is now."""
        hypotheses = []
        log_prob = 0.0
        self.generator.eval()
        for vectors, mask in self._feed.scored():
            logits, mask = self._generate(vectors.to(self._device), mask.to(self._device), None)
            best = logits.log_softmax(-1).max(-1)
            log_prob += float(best.values.masked_fill(~mask, 0.0).double().sum())
            ids = best.indices.cpu().numpy()
            for row, length in zip(ids, mask.sum(1).tolist(), strict=True):
                spoken: NDArray[np.int64] = row[:length]
                hypotheses.append(spoken[(spoken > 0) & (spoken < self.n_phones)])
        return Candidate(hypotheses, log_prob)

    def real(self, update: int) -> Padded:
        """Return the text of an update, `<pad>` behind the sentences."""
        ids, mask = (part.to(self._device) for part in self._feed.text(update))
        ids = ids.masked_fill(~mask, self.n_phones + PAD)
        return Padded(F.one_hot(ids, self.n_symbols).float(), mask)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self._generator_optimizer.state_dict(),
            "discriminator_optimizer": self._discriminator_optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self._generator_optimizer.load_state_dict(state["generator_optimizer"])
        self._discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])

    def _generate(self, vectors: Tensor, mask: Tensor, rng: torch.Generator | None) -> Padded:
        logits, mask = self.generator(vectors, mask, rng)
        if self._config.segmenter in ("join", "uniform_join"):
            logits, mask = join(logits, mask, rng)
        return Padded(logits, mask)


def generator_objective(
    discriminator: Discriminator, generated: Padded, choice: Choice
) -> dict[str, Tensor]:
    """Terms that G minimises, weighted already: see `gan.objective`."""
    probabilities = generated.values.softmax(-1)
    scores = discriminator(probabilities, generated.mask)
    spread = perplexity(probabilities)
    return {
        "adversarial": F.binary_cross_entropy_with_logits(scores, torch.zeros_like(scores)),
        "smoothness": choice.smoothness * smoothness(generated),
        "diversity": choice.diversity * diversity_penalty(spread, probabilities.shape[-1]),
    }


def discriminator_objective(
    discriminator: Discriminator,
    generated: Padded,
    real: Padded,
    choice: Choice,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """Terms that C minimises: see `gan.objective`."""
    fake = generated.values.softmax(-1)
    fused = discriminator.fuse()
    fake_scores = discriminator(fake, generated.mask, fused)
    real_scores = discriminator(real.values, real.mask, fused)
    alpha = torch.rand(len(fake), 1, 1, generator=rng, device=fake.device)
    penalty = gradient_penalty(discriminator, fake, real.values, alpha, fused)
    return {
        "fake": F.binary_cross_entropy_with_logits(fake_scores, torch.ones_like(fake_scores)),
        "real": F.binary_cross_entropy_with_logits(real_scores, torch.zeros_like(real_scores)),
        "gradient_penalty": choice.gradient_penalty * penalty,
    }


def gradient_penalty(
    discriminator: Discriminator,
    fake: Tensor,
    real: Tensor,
    alpha: Tensor,
    fused: FusedLayer | None = None,
) -> Tensor:
    """Keep the slope of every symbol near one, over the padded length of the shorter batch.

    Parameters
    ----------
    fake, real : Tensor
        (B, T, V) and (B, L, V).
    alpha : Tensor
        (B, 1, 1) in [0, 1].
    """
    steps = min(fake.shape[1], real.shape[1])
    mixed = alpha * real[:, :steps] + (1 - alpha) * fake[:, :steps]
    if not mixed.requires_grad:
        mixed.requires_grad_()
    scores = discriminator(mixed, None, fused)
    # Utterances do not see each other: the gradient of the sum holds each one's gradient.
    (slope,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)  # (B, T, V)
    norm: Tensor = torch.linalg.vector_norm(slope, dim=1)  # (B, V)
    return (norm - 1).square().sum(1).mean()


def smoothness(generated: Padded) -> Tensor:
    """Mean squared difference of neighbours, divided by the padded length."""
    logits, mask = generated
    pairs = mask[:, 1:].unsqueeze(-1)
    squares = (logits[:, 1:] - logits[:, :-1]).square().masked_fill(~pairs, 0.0)
    return squares.sum() / (max(1, mask[:, 1:].numel()) * logits.shape[-1])


def perplexity(probabilities: Tensor) -> Tensor:
    """Perplexity of the batch's mean distribution, the padding among it."""
    average = probabilities.mean((0, 1))
    return (-(average * (average + 1e-7).log()).sum()).exp()


def join(logits: Tensor, mask: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Merge runs of steps with the same best symbol.

    Parameters
    ----------
    logits, mask : Tensor
        (B, S, V) and (B, S) bool, True before the padding.
    rng : torch.Generator or None
        Training: one random step stands for its run. None: evaluation, the mean of the run.

    Returns
    -------
    logits : Tensor
        (B, R, V), zero in the padding. R, on which other terms depend, is that of the published
        code: the most runs of any utterance, where the padding counts as one run.
    mask : Tensor
        (B, R) bool.
    """
    batch, steps, symbols = logits.shape
    best = logits.argmax(-1)
    starts = mask.clone()
    starts[:, 1:] &= best[:, 1:] != best[:, :-1]
    dump = steps  # an extra column takes what belongs to no run
    run = torch.where(mask, starts.cumsum(1) - 1, dump)  # (B, S)
    runs = starts.sum(1)
    length = int((runs + (~mask).any(1)).max())
    new_mask = torch.arange(length, device=logits.device) < runs.unsqueeze(1)
    count = torch.zeros(batch, steps + 1, dtype=torch.long, device=logits.device)
    count.scatter_add_(1, run, torch.ones_like(run))
    count = count[:, :length].clamp(min=1)
    if rng is None:
        total = logits.new_zeros(batch, steps + 1, symbols)
        total = total.scatter_add(1, run.unsqueeze(-1).expand_as(logits), logits)
        joined = total[:, :length] / count.unsqueeze(-1)
    else:
        position = torch.arange(steps, device=logits.device).expand(batch, steps)
        first = torch.zeros(batch, steps + 1, dtype=torch.long, device=logits.device)
        first.scatter_(1, torch.where(starts, run, dump), position)
        draw = torch.rand(batch, length, generator=rng, device=logits.device)
        offset = torch.minimum((draw * count).long(), count - 1)
        chosen = (first[:, :length] + offset).unsqueeze(-1)
        joined = logits.gather(1, chosen.expand(-1, -1, symbols))
    return joined.masked_fill(~new_mask.unsqueeze(-1), 0.0), new_mask
