"""Adversarial training of generators from several seeds.

Updates alternate as in the reference: even ones train the generator, odd ones the discriminator.
A member is killed and resumed without a difference in the result, because batches and random
numbers depend on the seed and the number of the update, and all other state is checkpointed.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wav2vec_u.config import GanConfig, MatchingConfig
from wav2vec_u.matching.batches import (
    SegmentSource,
    SpeechBatches,
    TextBatches,
    TextSource,
    pad_vectors,
)
from wav2vec_u.matching.discriminator import Discriminator
from wav2vec_u.matching.generator import Generator
from wav2vec_u.matching.objective import (
    Generated,
    Real,
    discriminator_objective,
    generator_objective,
    perplexity,
)
from wav2vec_u.matching.segmenters import post_segment, pre_segment
from wav2vec_u.matching.selection import Candidate, LanguageModel, Score, score
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.device import pick_device
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_json, write_jsonl
from wav2vec_u.runtime.progress import MetricsLog, progress
from wav2vec_u.runtime.seeds import numpy_generator, torch_generator

# The reference's fairseq dictionary puts <s>, <pad>, </s> and <unk> among the outputs.
REFERENCE_SPECIALS = 4
ADAM_BETAS = (0.5, 0.98)  # reference: w2vu.yaml
ADAM_EPS = 1e-6

_CHECKPOINT = "checkpoint.safetensors"
_DROPPED = "dropped.json"
_LOG = "log.jsonl"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemberResult:
    """One trained generator.

    Attributes
    ----------
    member : int
        Number of the restart; its files are in ``member_NN``.
    update : int
        Update after which the kept generator was taken.
    generator : Generator
        On the CPU, in evaluation mode, with one output a phone.
    candidate : Candidate
        What it says about the scored utterances, for `selection.select`.
    score : Score or None
        Its figures; None without a language model.
    """

    member: int
    update: int
    generator: Generator
    candidate: Candidate
    score: Score | None


def train_gan(
    folder: Path,
    segments: SegmentSource,
    text: TextSource,
    config: MatchingConfig,
    dev_lm: LanguageModel | None = None,
    resume: bool = False,
    start: dict[str, Tensor] | None = None,
) -> list[MemberResult]:
    """Train ``config.seeds`` generators, one after the other.

    Parameters
    ----------
    folder : Path
        Gets ``member_NN/`` with ``log.jsonl`` (losses, gradient norms, perplexity, scores) and
        ``checkpoint.safetensors``.
    segments : SegmentSource
        Segment vectors; split ``train`` is used.
    text : TextSource
        Unpaired text; ``phones[0]`` is the silence.
    config : MatchingConfig
        `seeds`, `seed`, `device` and everything in `gan`.
    dev_lm : LanguageModel or None
        Phone language model by which a member keeps its best checkpoint (`selection.score`);
        None keeps the last one.
    resume : bool
        Go on from the checkpoints in `folder`; otherwise what is there is removed.
    start : dict of Tensor or None
        State of a `Generator` with one output a phone, where every member starts from.

    Returns
    -------
    list of MemberResult
        One for every member that stayed finite. A member that did not is dropped with a message
        in the program's log and in ``member_NN/dropped.json``.

    Raises
    ------
    UserError
        If there is nothing to train on, or no member stayed finite.
    """
    results = []
    for number in range(config.seeds):
        member_folder = folder / f"member_{number:02d}"
        if not resume and member_folder.exists():
            shutil.rmtree(member_folder)
        member_folder.mkdir(parents=True, exist_ok=True)
        member = Member(number, member_folder, segments, text, config, dev_lm, start)
        if member.train():
            results.append(member.result())
    if not results:
        raise UserError(
            "matching: no restart stayed finite; lower matching.gan.generator_lr and "
            "matching.gan.discriminator_lr, or check the segments for NaN"
        )
    return results


class Member:
    """One restart: networks, optimisers, and the kept generator.

    See `train_gan` for the parameters.
    """

    def __init__(
        self,
        number: int,
        folder: Path,
        segments: SegmentSource,
        text: TextSource,
        config: MatchingConfig,
        lm: LanguageModel | None,
        start: dict[str, Tensor] | None,
    ) -> None:
        self.number = number
        self.folder = folder
        self.gan: GanConfig = config.gan
        self.seed = config.seed
        self.device = pick_device(config.device)
        self.lm = lm
        self.segments = segments
        self.n_phones = len(text.phones)
        self.update = 0
        self.best: dict[str, Any] | None = None

        seed = int(numpy_generator(self.seed, "gan member", number).integers(2**31))
        self._rng_seed = seed
        self.speech = SpeechBatches(segments, self.gan.batch_size, seed)
        self.text = TextBatches(
            text, self.speech.batch_size, seed, with_replacement=self.gan.reference
        )
        picker = numpy_generator(self.seed, "gan scored utterances")
        count = min(self.gan.score_utterances, len(self.speech.utterances))
        picked = picker.choice(self.speech.utterances, size=count, replace=False)
        self.scored: list[int] = sorted(picked.tolist())
        self._build(start)

    def _build(self, start: dict[str, Tensor] | None) -> None:
        gan = self.gan
        self.n_symbols = self.n_phones + (REFERENCE_SPECIALS if gan.reference else 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._rng_seed)  # torch's initialisers know no other generator
            self.generator = Generator(
                self.segments.dim,
                self.n_symbols,
                gan.generator_kernel,
                gan.generator_stride,
                gan.generator_dropout,
                batch_norm=gan.generator_batch_norm,
                residual=gan.generator_residual,
                reference_padding=gan.reference,
            )
            self.discriminator = Discriminator(
                self.n_symbols,
                gan.discriminator_dim,
                gan.discriminator_depth,
                gan.discriminator_kernel,
            )
        self.discriminator_first = 0
        if start is not None:
            self.discriminator_first = gan.start_discriminator_updates
            _load_start(self.generator, start, self.n_phones)
        self.generator.to(self.device)
        self.discriminator.to(self.device)
        # The reference's Adam decays weights apart from the gradient: AdamW.
        self.generator_optimizer = torch.optim.AdamW(
            self.generator.parameters(),
            lr=gan.generator_lr,
            betas=ADAM_BETAS,
            eps=ADAM_EPS,
            weight_decay=0.0,
        )
        self.discriminator_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(),
            lr=gan.discriminator_lr,
            betas=ADAM_BETAS,
            eps=ADAM_EPS,
            weight_decay=gan.discriminator_weight_decay,
        )

    def train(self) -> bool:
        """Train to the last update; tell whether the member stayed finite."""
        if (self.folder / _DROPPED).exists():
            logger.warning("member %02d was dropped before; see %s", self.number, _DROPPED)
            return False
        self._resume()
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        remaining = range(self.update, self.gan.updates)
        with MetricsLog(self.folder / _LOG) as log:
            for update in progress(remaining, label=f"gan {self.number}"):
                for name, value in self.step(update).items():
                    sums[name] = sums[name] + value if name in sums else value
                    counts[name] = counts.get(name, 0) + 1
                self.update = update + 1
                keep = self.update % self.gan.checkpoint_every == 0 or (
                    self.update == self.gan.updates
                )
                if not keep and self.update % self.gan.log_every:
                    continue
                # The only waits for the device: figures are read here, not in every step.
                means = {name: float(total) / counts[name] for name, total in sums.items()}
                sums, counts = {}, {}
                if not all(np.isfinite(value) for value in means.values()):
                    self._drop(means)
                    return False
                figures: dict[str, Any] = {name: round(v, 6) for name, v in means.items()}
                if keep:
                    figures |= self._validate()
                log.write(update=self.update, **figures)
                if keep:
                    self._save()
        return True

    def step(self, update: int) -> dict[str, Tensor]:
        """Do one update of one of the two networks.

        Returns
        -------
        dict of Tensor
            Detached scalars: the weighted terms of the loss, the norm of the gradient before
            clipping, and in generator updates the perplexity of the batch's mean distribution.
        """
        gan = self.gan
        rng = torch_generator(self._rng_seed, "step", update, device=str(self.device))
        train_discriminator = update % 2 == 1 or update < self.discriminator_first
        self.generator.train()
        # Gradients that no optimiser uses cost as much as those that are used. The reference
        # computes them all the same, and they count in its joint gradient norm.
        self.generator.requires_grad_(gan.reference or not train_discriminator)
        self.discriminator.requires_grad_(gan.reference or train_discriminator)
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.discriminator_optimizer.zero_grad(set_to_none=True)

        vectors, mask = (part.to(self.device) for part in self.speech.batch(update))
        generated = self._generate(vectors, mask, rng)
        if train_discriminator:
            real = self._real(update)
            terms = discriminator_objective(self.discriminator, generated, real, gan, rng)
        else:
            terms = generator_objective(self.discriminator, generated, gan)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())

        network = self.discriminator if train_discriminator else self.generator
        clipped = list(network.parameters())
        if gan.reference:
            clipped = [*self.generator.parameters(), *self.discriminator.parameters()]
        norm = torch.nn.utils.clip_grad_norm_(clipped, gan.clip_norm)
        side = "discriminator" if train_discriminator else "generator"
        if train_discriminator:
            self.discriminator_optimizer.step()
        else:
            self.generator_optimizer.step()

        figures = {f"{side}_{name}": value.detach() for name, value in terms.items()}
        figures[f"{side}_gradient_norm"] = norm.detach()
        if not train_discriminator:
            with torch.no_grad():
                probabilities = generated.logits.softmax(-1)
                figures["perplexity"] = perplexity(probabilities, generated.mask)
        return figures

    def candidate(self) -> Candidate:
        """Transcribe the scored utterances with the generator as it is now."""
        hypotheses = []
        log_prob = 0.0
        self.generator.eval()
        with torch.no_grad():
            for items in _chunks(self.scored, self.speech.batch_size):
                vectors, mask = pad_vectors([self.segments.vectors(item) for item in items])
                logits, mask = self._generate(vectors.to(self.device), mask.to(self.device), None)
                best = logits.log_softmax(-1).max(-1)
                log_prob += float(best.values.masked_fill(~mask, 0.0).double().sum())
                ids = best.indices.cpu().numpy()
                for row, length in zip(ids, mask.sum(1).tolist(), strict=True):
                    spoken: NDArray[np.int64] = row[:length]
                    # Silence is 0; the specials of the reference stand behind the phones.
                    hypotheses.append(spoken[(spoken > 0) & (spoken < self.n_phones)])
        return Candidate(hypotheses, log_prob)

    def result(self) -> MemberResult:
        """Return the kept generator with what it says."""
        assert self.best is not None, "train() validates before it ends"
        self.generator.load_state_dict(self.best["weights"])
        candidate = self.candidate()
        return MemberResult(
            member=self.number,
            update=self.best["update"],
            generator=self.generator.only(self.n_phones),
            candidate=candidate,
            score=self._score(candidate),
        )

    def _generate(self, vectors: Tensor, mask: Tensor, rng: torch.Generator | None) -> Generated:
        gan = self.gan
        pick = rng if rng is not None else torch_generator(0, "score", device=str(self.device))
        vectors, mask = pre_segment(gan.segmenter, vectors, mask, gan.segmenter_rate, pick)
        logits, mask = self.generator(vectors, mask, rng)
        return Generated(*post_segment(gan.segmenter, logits, mask, rng, reference=gan.reference))

    def _real(self, update: int) -> Real:
        ids, mask = (part.to(self.device) for part in self.text.batch(update))
        if self.gan.reference:
            ids = ids.masked_fill(~mask, self.n_phones + 1)  # <pad>, the second of the specials
            return Real(F.one_hot(ids, self.n_symbols).float(), mask)
        return Real(F.one_hot(ids, self.n_symbols) * mask.unsqueeze(-1).float(), mask)

    def _score(self, candidate: Candidate) -> Score | None:
        if self.lm is None:
            return None
        silence = 0 if self.gan.reference else 1  # the reference counts it, though never seen
        return score(candidate, self.lm, self.n_phones - silence)

    def _validate(self) -> dict[str, Any]:
        candidate = self.candidate()
        found = self._score(candidate)
        figures: dict[str, Any] = {"log_prob": round(candidate.log_prob, 3)}
        rank = None
        if found is not None:
            rank = found.weighted_lm_ppl if self.gan.reference else found.anchor
            figures |= {"lm_ppl": round(found.lm_ppl, 4), "usage": round(found.usage, 4)}
        if self.best is None or rank is None or rank < self.best["rank"]:
            weights = {k: v.detach().cpu().clone() for k, v in self.generator.state_dict().items()}
            self.best = {"update": self.update, "rank": rank, "weights": weights}
        return figures

    def _save(self) -> None:
        save_checkpoint(
            self.folder / _CHECKPOINT,
            {
                "update": self.update,
                "generator": self.generator.state_dict(),
                "discriminator": self.discriminator.state_dict(),
                "generator_optimizer": self.generator_optimizer.state_dict(),
                "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
                "best": self.best,
            },
        )

    def _resume(self) -> None:
        path, log = self.folder / _CHECKPOINT, self.folder / _LOG
        if path.exists():
            state = load_checkpoint(path)
            self.update = state["update"]
            self.generator.load_state_dict(state["generator"])
            self.discriminator.load_state_dict(state["discriminator"])
            self.generator_optimizer.load_state_dict(state["generator_optimizer"])
            self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
            self.best = state["best"]
        if log.exists():
            # What was logged after the checkpoint is done, and logged, again.
            write_jsonl(log, [row for row in _whole_rows(log) if row["update"] <= self.update])

    def _drop(self, means: dict[str, float]) -> None:
        names = sorted(name for name, value in means.items() if not np.isfinite(value))
        write_json(self.folder / _DROPPED, {"update": self.update, "not_finite": names})
        logger.warning(
            "member %02d is dropped: %s not finite at update %d",
            self.number,
            ", ".join(names),
            self.update,
        )


def _load_start(generator: Generator, start: dict[str, Tensor], n_phones: int) -> None:
    state = generator.state_dict()
    weight = start.get("conv.weight")
    expected = (n_phones, *state["conv.weight"].shape[1:])
    if weight is None or tuple(weight.shape) != expected:
        shape = None if weight is None else tuple(weight.shape)
        raise UserError(
            f"matching: the starting generator's conv.weight is {shape}, not {expected}; "
            "set matching.gan.generator_kernel to the kernel it was made with"
        )
    # The specials of the reference stand behind the phones and keep their random start.
    merged = state["conv.weight"].clone()
    merged[:n_phones] = weight
    generator.load_state_dict({**state, **start, "conv.weight": merged})


def _whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    rows = read_jsonl(path)
    while True:
        try:
            yield next(rows)
        except (StopIteration, ValueError):  # a kill may have cut the last line
            return


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
