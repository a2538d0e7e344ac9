"""Adversarial training of several generators side by side.

Updates alternate as in the reference: even ones train the generators, odd ones the discriminators.
A run that is killed and resumed ends with the same result, because batches and random numbers
depend on the seed and the number of the update, and all other state is checkpointed.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from wav2vec_u.config import GanConfig, MatchingConfig
from wav2vec_u.matching.agreement import disagreements, nearest
from wav2vec_u.matching.batches import SegmentSource, TextSource
from wav2vec_u.matching.gan.budget import Standing, hopeless, improvement_ended, reviews
from wav2vec_u.matching.gan.ensemble import Ensemble
from wav2vec_u.matching.gan.feed import Codes, Feed
from wav2vec_u.matching.gan.networks import rebuild_generator
from wav2vec_u.matching.gan.reference import ReferenceMembers
from wav2vec_u.matching.gan.table import MembersTable
from wav2vec_u.matching.generator import Generator
from wav2vec_u.matching.selection import Candidate, LanguageModel, Score, score
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.device import pick_device
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_json, write_jsonl
from wav2vec_u.runtime.progress import MetricsLog

CHECKPOINT_NAME = "members.safetensors"
DROPPED_NAME = "dropped.json"
LOG_NAME = "log.jsonl"
TEXT_SENTENCES = 1_000  # whose likelihood tells what language looks like

logger = logging.getLogger(__name__)


class Members(Protocol):
    """What trains: `Ensemble` or `ReferenceMembers`. A slot is a member's place among them."""

    @property
    def numbers(self) -> list[int]: ...
    def step(self, update: int, /) -> dict[str, Tensor]: ...
    def candidates(self) -> list[Candidate]: ...
    def generator_state(self, slot: int, /) -> dict[str, Tensor]: ...
    def replace(self, slot: int, number: int, /) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any], /) -> None: ...


@dataclass(frozen=True)
class MemberResult:
    """One trained generator.

    Attributes
    ----------
    member : int
        Its number; its files are in ``member_NN``.
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
    codes: Codes | None = None,
) -> list[MemberResult]:
    """Train ``config.seeds`` generators at a time.

    Parameters
    ----------
    folder : Path
        Gets ``members.safetensors``, the checkpoint of all members, and ``member_NN/`` with
        ``log.jsonl`` (losses, gradient norms, perplexity, scores).
    segments : SegmentSource
        Segment vectors; split ``train`` is used.
    text : TextSource
        Unpaired text; ``phones[0]`` is the silence.
    config : MatchingConfig
        `seeds`, `seed`, `device` and everything in `gan`.
    dev_lm : LanguageModel or None
        Phone language model by which a member keeps its best checkpoint (`selection.score`) and
        hopeless ones give way to new ones; None keeps every member to the end, and its last state.
    resume : bool
        Go on from the checkpoint in `folder`; otherwise what is there is removed.
    start : dict of Tensor or None
        State of a `Generator` with one output a phone, where every second member starts from.
    codes : callable or None
        Gives the MFCC clusters (S,) of an utterance's segments, for ``gan.auxiliary``.

    Returns
    -------
    list of MemberResult
        One for every member that was ever kept, those that gave way among them. A member that did
        not stay finite is dropped with a message in the program's log and in
        ``member_NN/dropped.json``.

    Raises
    ------
    UserError
        If there is nothing to train on, or no member stayed finite.
    """
    training = Training(folder, segments, text, config, dev_lm, start, codes)
    training.run(resume)
    results = training.results()
    if not results:
        raise UserError(
            "matching: no restart stayed finite; lower matching.gan.generator_lr and "
            "matching.gan.discriminator_lr, or check the segments for NaN"
        )
    return results


class Training:
    """The loop around the members' steps. See `train_gan` for the parameters."""

    def __init__(
        self,
        folder: Path,
        segments: SegmentSource,
        text: TextSource,
        config: MatchingConfig,
        lm: LanguageModel | None,
        start: dict[str, Tensor] | None,
        codes: Codes | None = None,
    ) -> None:
        self._folder = folder
        self._gan: GanConfig = config.gan
        self._lm = lm
        self._feed = Feed(segments, text, config.gan, config.seed, codes)
        kind = ReferenceMembers if config.gan.reference else Ensemble
        numbers = list(range(config.seeds))
        device = pick_device(config.device)
        self._members: Members = kind(numbers, self._feed, config.gan, device, start)
        self._reviews = reviews(config.gan) if lm is not None else []
        self._text_nll = 0.0 if lm is None else _text_nll(text, lm)
        self._update = 0
        self._next = config.seeds
        self._kept: dict[int, dict[str, Any]] = {}
        self._dropped: dict[int, dict[str, Any]] = {}
        self._history: list[float] = []  # the best anchor of all, at every checkpoint

    def run(self, resume: bool) -> None:
        """Train to the last update, or until no member gets better."""
        if resume:
            self._resume()
        else:
            self._clear()
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        with MembersTable(self._gan.updates) as table:
            for update in range(self._update, self._gan.updates):
                if self._ended():
                    break
                for name, value in self._members.step(update).items():
                    sums[name] = sums[name] + value if name in sums else value
                    counts[name] = counts.get(name, 0) + 1
                self._update = update + 1
                table.advance(self._update)
                keep = self._update % self._gan.checkpoint_every == 0 or (
                    self._update == self._gan.updates
                )
                if not keep and self._update % self._gan.log_every:
                    continue
                # The only waits for the device: figures are read here, not in every step.
                means = {name: (sums[name] / counts[name]).tolist() for name in sums}
                sums, counts = {}, {}
                self._report(means, keep, table)
                if keep:
                    self._save()

    def results(self) -> list[MemberResult]:
        """Return every member's kept generator with what it says."""
        results = []
        for number, kept in sorted(self._kept.items()):
            candidate = _unpack(kept)
            results.append(
                MemberResult(
                    member=number,
                    update=kept["update"],
                    generator=rebuild_generator(
                        self._gan, self._feed.dim, self._feed.n_phones, kept["weights"]
                    ),
                    candidate=candidate,
                    score=self._score(candidate),
                )
            )
        return results

    def _ended(self) -> bool:
        alive = [number for number in self._members.numbers if number not in self._dropped]
        return not alive or improvement_ended(self._history, self._gan.patience)

    def _report(self, means: dict[str, list[float]], keep: bool, table: MembersTable) -> None:
        """Log all members; at a checkpoint also score them, and let hopeless ones give way."""
        candidates = self._members.candidates() if keep else []
        closeness = self._closeness(candidates)
        standings = []
        for slot, number in enumerate(self._members.numbers):
            if number in self._dropped:
                continue
            figures: dict[str, Any] = {name: values[slot] for name, values in means.items()}
            broken = sorted(name for name, value in figures.items() if not np.isfinite(value))
            if broken:
                self._drop(number, broken)
                continue
            figures = {name: round(value, 6) for name, value in figures.items()}
            if keep:
                found = self._score(candidates[slot])
                figures |= self._keep_best(slot, number, candidates[slot], found)
                if found is not None:
                    standing = Standing(slot, number, found, self._text_nll, closeness[slot])
                    figures["taken_off"] = standing.taken_off
                    standings.append(standing)
            place = self._folder / f"member_{number:02d}"
            place.mkdir(parents=True, exist_ok=True)
            with MetricsLog(place / LOG_NAME) as log:
                log.write(update=self._update, **figures)
            table.show(number, figures)
        if standings:
            self._history.append(min(each.score.anchor for each in standings))
        if self._update in self._reviews:
            self._review(standings, table)

    def _closeness(self, candidates: list[Candidate]) -> dict[int, float | None]:
        """Return by slot how far each living member is from the one nearest to it, percent."""
        numbers = self._members.numbers
        alive = [slot for slot in range(len(candidates)) if numbers[slot] not in self._dropped]
        found = nearest(disagreements([candidates[slot] for slot in alive]))
        return dict(zip(alive, found, strict=True))

    def _review(self, standings: list[Standing], table: MembersTable) -> None:
        dropped = [s for s, number in enumerate(self._members.numbers) if number in self._dropped]
        for slot in sorted([*dropped, *hopeless(standings)]):
            table.end(self._members.numbers[slot])
            self._members.replace(slot, self._next)
            self._next += 1

    def _keep_best(
        self, slot: int, number: int, candidate: Candidate, found: Score | None
    ) -> dict[str, Any]:
        figures: dict[str, Any] = {"log_prob": round(candidate.log_prob, 3)}
        rank = None
        if found is not None:
            rank = found.weighted_lm_ppl if self._gan.reference else found.anchor
            figures |= {"lm_ppl": round(found.lm_ppl, 4), "usage": round(found.usage, 4)}
        best = self._kept.get(number)
        if best is None or rank is None or rank < best["rank"]:
            self._kept[number] = {
                "update": self._update,
                "rank": rank,
                "weights": self._members.generator_state(slot),
                **_pack(candidate),
            }
        return figures

    def _score(self, candidate: Candidate) -> Score | None:
        if self._lm is None:
            return None
        silence = 0 if self._gan.reference else 1  # the reference counts it, though never seen
        return score(candidate, self._lm, self._feed.n_phones - silence)

    def _drop(self, number: int, broken: list[str]) -> None:
        self._dropped[number] = {"update": self._update, "not_finite": broken}
        self._kept.pop(number, None)
        place = self._folder / f"member_{number:02d}"
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / DROPPED_NAME, self._dropped[number])
        names = ", ".join(broken)
        logger.warning(
            "member %02d is dropped: %s not finite at update %d", number, names, self._update
        )

    def _save(self) -> None:
        save_checkpoint(
            self._folder / CHECKPOINT_NAME,
            {
                "update": self._update,
                "next": self._next,
                "members": self._members.state(),
                "kept": self._kept,
                "dropped": self._dropped,
                "history": self._history,
            },
        )

    def _resume(self) -> None:
        path = self._folder / CHECKPOINT_NAME
        if not path.exists():
            self._clear()
            return
        state = load_checkpoint(path)
        self._update, self._next = state["update"], state["next"]
        self._members.load(state["members"])
        self._kept, self._dropped = state["kept"], state["dropped"]
        self._history = state["history"]
        for log in sorted(self._folder.glob(f"member_*/{LOG_NAME}")):
            # What was logged after the checkpoint is done, and logged, again.
            write_jsonl(log, [row for row in _whole_rows(log) if row["update"] <= self._update])

    def _clear(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / CHECKPOINT_NAME).unlink(missing_ok=True)
        for place in self._folder.glob("member_*"):
            shutil.rmtree(place)


def _text_nll(text: TextSource, lm: LanguageModel) -> float:
    sentences = [text.sentence(i) for i in range(min(len(text), TEXT_SENTENCES))]
    phones = [sentence.astype(np.int64) for sentence in sentences]
    return score(Candidate(phones, 0.0), lm, len(text.phones)).nll


def _pack(candidate: Candidate) -> dict[str, Any]:
    """Make a candidate of tensors, for a checkpoint."""
    said = candidate.hypotheses
    return {
        "phones": torch.from_numpy(np.concatenate([*said, np.empty(0, np.int64)])),
        "lengths": torch.tensor([len(hypothesis) for hypothesis in said]),
        "log_prob": candidate.log_prob,
    }


def _unpack(kept: dict[str, Any]) -> Candidate:
    pieces = kept["phones"].split(kept["lengths"].tolist())
    return Candidate([piece.numpy() for piece in pieces], kept["log_prob"])


def _whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    rows = read_jsonl(path)
    while True:
        try:
            yield next(rows)
        except (StopIteration, ValueError):  # a kill may have cut the last line
            return
