"""The training loop: one round of updates, on one process or several, resumable to the bit.

Batches, masks and dropout depend on the seed and the number of the update alone, so that a
checkpoint needs no state of any random generator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import torch
from torch import nn

from wav2vec_u.config import SAMPLE_RATE, PretrainConfig, TargetRound
from wav2vec_u.encoder.encode import phases_of
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.pretrain.batches import Batch, load_targets, load_waveforms
from wav2vec_u.pretrain.feed import Feed
from wav2vec_u.pretrain.masking import span_mask
from wav2vec_u.pretrain.module import PhoneBatch, Pretraining, build_objective
from wav2vec_u.pretrain.objectives import ObjectiveResult, PhoneObjective
from wav2vec_u.pretrain.optimiser import (
    ADAM_BETAS,
    ADAM_EPS,
    learning_rate_scale,
    parameter_groups,
)
from wav2vec_u.pretrain.pack import AudioPack
from wav2vec_u.pretrain.processes import Processes
from wav2vec_u.pretrain.spoken import SpokenSpeech
from wav2vec_u.pretrain.targets import Targets
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.progress import MetricsLog
from wav2vec_u.runtime.seeds import torch_generator

CHECKPOINT_NAME = "checkpoint.safetensors"
LOG_NAME = "log.jsonl"
_SHOWN_IDS = 5
_CLOCK_TICK = 1e-3  # seconds; the clock of some systems stands still for longer


class Unfinished(Exception):
    """The time is up before the work is done; the same call, made again, goes on."""


class NotFinite(UserError):
    """The loss or the gradient is no longer a number; the last good checkpoint stays."""


@dataclass
class _State:
    """Where the training stands: what a checkpoint holds beside weights."""

    update: int = 0
    heard_seconds: float = 0.0


def train_round(
    network: SpeechNetwork,
    pack: AudioPack,
    targets: Targets | None,
    config: PretrainConfig,
    number: int,
    folder: Path,
    processes: Processes,
    deadline: float | None = None,
    spoken: SpokenSpeech | None = None,
) -> dict[str, float]:
    """Train one round in place, from its checkpoint where there is one.

    Parameters
    ----------
    network : SpeechNetwork
        On its device; changed.
    pack : AudioPack
    targets : Targets or None
        None for the contrastive objective.
    config : PretrainConfig
    number : int
        Of the round, from 0.
    folder : Path
        Gets ``checkpoint.safetensors`` and ``log.jsonl`` (written by the first process alone).
    processes : Processes
        Who takes part.
    deadline : float or None
        See `check_time`; looked at after every checkpoint.
    spoken : SpokenSpeech or None
        Synthetic speech, a batch of which goes beside every batch of recordings.

    Returns
    -------
    dict
        The figures of the last validation, and ``hours_heard``.

    Raises
    ------
    UserError
        If the checkpoint does not fit the settings.
    NotFinite
        If the loss or the gradient is no longer a number; the last good checkpoint stays.
    Unfinished
        If the deadline has passed.
    """
    round_ = config.rounds[number]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(config.seed, "objective", number).initial_seed())
        objective = build_objective(config, network, round_.clusters)
        phones = (
            None
            if spoken is None
            else PhoneObjective(network.dim, phases_of(network), len(spoken.phones))
        )
    model = Pretraining(network, objective, phones, config.spoken.weight)
    feeds = {"recordings": Feed(pack, targets, config, number, processes)}
    if spoken is not None:
        feeds["spoken"] = Feed(spoken.pack, spoken.targets, config, number, processes)
    training = _Round(model, feeds, config, round_, number, folder, processes)
    return training.run(deadline)


def check_time(deadline: float | None, processes: Processes) -> None:
    """Stop all processes together once the deadline has passed for one of them.

    Parameters
    ----------
    deadline : float or None
        On the clock of `time.monotonic`, seconds; None: never.
    processes : Processes

    Raises
    ------
    Unfinished
    """
    if deadline is not None and not processes.all_true(time.monotonic() < deadline):
        raise Unfinished


class _Round:
    def __init__(
        self,
        model: Pretraining,
        feeds: dict[str, Feed],
        config: PretrainConfig,
        round_: TargetRound,
        number: int,
        folder: Path,
        processes: Processes,
    ) -> None:
        self.network = model.network
        self.device = self.network.mask_vector.device
        self.model = model.to(self.device)
        self.feeds = feeds
        self.recordings = feeds["recordings"]
        self.spoken = feeds.get("spoken")
        self.config = config
        self.updates = round_.updates
        self.number = number
        self.folder = folder
        self.processes = processes
        self.codebooks = phases_of(self.network)
        self.state = _State()
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, config.weight_decay),
            lr=config.learning_rate,
            betas=ADAM_BETAS,
            eps=ADAM_EPS,
            fused=True,
        )
        self._resume()
        processes.share(self.model)

    def run(self, deadline: float | None) -> dict[str, float]:
        validation = {}
        spoken = repeat(None) if self.spoken is None else self.spoken.batches()
        batches = zip(self.recordings.batches(), spoken, strict=False)  # both without end
        with MetricsLog(self.folder / LOG_NAME) if self.processes.first else nullcontext() as log:
            started, first_update = time.monotonic(), self.state.update
            sums: dict[str, float] = {}
            summed = 0  # a resumed round may start in the midst of a line of the log
            while self.state.update < self.updates:
                for key, value in self._update(batches).items():
                    sums[key] = sums.get(key, 0.0) + value
                summed += 1
                update = self.state.update
                done = update == self.updates
                if update % self.config.log_every == 0 and log is not None:
                    seconds = max(time.monotonic() - started, _CLOCK_TICK)
                    means = {key: value / summed for key, value in sums.items()}
                    log.write(
                        round=self.number,
                        update=update,
                        updates_per_second=round((update - first_update) / seconds, 3),
                        hours_heard=round(self.state.heard_seconds / 3600, 3),
                        **{key: round(value, 5) for key, value in means.items()},
                    )
                if update % self.config.log_every == 0:
                    sums, summed = {}, 0
                if update % self.config.validate_every == 0 or done:
                    validation = self.validate()
                    if log is not None:
                        log.write(round=self.number, update=update, **validation)
                if update % self.config.checkpoint_every == 0 or done:
                    if self.processes.first:
                        self._save()
                    if not done:
                        check_time(deadline, self.processes)
        validation = validation or self.validate()
        self.processes.barrier()
        return {**validation, "hours_heard": self.state.heard_seconds / 3600}

    def _update(self, batches: Iterator[tuple[Batch, Batch | None]]) -> dict[str, float]:
        config = self.config
        scale = learning_rate_scale(self.state.update, self.updates, config.warmup, config.decay)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * scale
        generator = torch_generator(
            config.seed, "update", self.number, self.state.update, self.processes.rank
        )
        # Dropout and layer drop draw from torch's global state.
        torch.manual_seed(generator.initial_seed())
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        metrics: dict[str, float] = {}
        for _ in range(config.accumulate):
            batch, said = next(batches)
            result = self._loss(batch, generator, said)
            (result.loss / config.accumulate).backward()  # type: ignore[no-untyped-call]
            values = {"loss": result.loss.detach(), **result.metrics}
            for key, value in values.items():
                metrics[key] = metrics.get(key, 0.0) + float(value) / config.accumulate
            heard = len(batch.utterances) * batch.n_samples / SAMPLE_RATE
            self.state.heard_seconds += heard * self.processes.size
            self._check_finite(metrics["loss"], batch, "loss")
        self.processes.average_gradients(self.model)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm))
        self._check_finite(norm, batch, "gradient")
        self.optimizer.step()
        self.state.update += 1
        return {**metrics, "gradient_norm": norm}

    def _loss(
        self, batch: Batch, generator: torch.Generator, said: Batch | None = None
    ) -> ObjectiveResult:
        waveforms, lengths = load_waveforms(self.recordings.pack, batch)
        steps = self.network.n_steps(batch.n_samples)
        mask = self._mask(len(lengths), steps, self.config.mask_probability, generator)
        targets = (
            None
            if self.recordings.targets is None
            else load_targets(self.recordings.targets, batch, steps, self.codebooks).to(self.device)
        )
        spoken = None if said is None else self._phone_batch(said, generator)
        with self._autocast():
            result: ObjectiveResult = self.model(
                waveforms.to(self.device),
                lengths.to(self.device),
                mask,
                targets,
                self.state.update / self.updates,
                generator,
                spoken,
            )
        return result

    def _phone_batch(self, batch: Batch, generator: torch.Generator) -> PhoneBatch:
        assert self.spoken is not None and self.spoken.targets is not None
        waveforms, lengths = load_waveforms(self.spoken.pack, batch)
        steps = self.network.n_steps(batch.n_samples)
        return PhoneBatch(
            waveforms.to(self.device),
            lengths.to(self.device),
            self._mask(len(lengths), steps, self.config.spoken.mask_probability, generator),
            load_targets(self.spoken.targets, batch, steps, self.codebooks).to(self.device),
        )

    def _mask(
        self, rows: int, steps: int, probability: float, generator: torch.Generator
    ) -> torch.Tensor:
        everywhere = torch.ones(rows, steps, dtype=torch.bool)
        mask = span_mask(everywhere, probability, self.config.mask_length, generator)
        return mask.to(self.device)

    def _autocast(self) -> torch.autocast:
        enabled = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _check_finite(self, value: float, batch: Batch, what: str) -> None:
        if self.processes.all_true(math.isfinite(value)):
            return
        ids = [self.recordings.pack.ids[index] for index in batch.utterances]
        shown = ", ".join(ids[:_SHOWN_IDS]) + (", ..." if len(ids) > _SHOWN_IDS else "")
        raise NotFinite(
            f"pretrain: the {what} is not a number at update {self.state.update + 1} of round "
            f"{self.number + 1} (utterances {shown}); the last good checkpoint stays in "
            f"{self.folder}; lower pretrain.learning_rate"
        )

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Measure the loss on utterances that are never learned from, with masks always the same.

        Every process measures all of them, so that none waits for another.
        """
        self.model.eval()
        sums: dict[str, float] = {}
        total = 0
        with torch.random.fork_rng(devices=[]):
            for place, batch in enumerate(self.recordings.validation_batches()):
                generator = torch_generator(self.config.seed, "validation", place)
                result = self._loss(batch, generator)
                total += result.count
                for key, value in {"loss": result.loss, **result.metrics}.items():
                    sums[key] = sums.get(key, 0.0) + float(value) * result.count
        figures = {key: value / max(total, 1) for key, value in sums.items()}
        if self.spoken is not None:
            figures |= self._validate_phones(self.spoken)
        return {f"validation_{key}": round(value, 5) for key, value in figures.items()}

    def _validate_phones(self, spoken: Feed) -> dict[str, float]:
        sums: dict[str, float] = {}
        total = 0
        for place, batch in enumerate(spoken.validation_batches()):
            generator = torch_generator(self.config.seed, "validation", "spoken", place)
            with self._autocast():
                result = self.model.tell_phones(self._phone_batch(batch, generator))
            total += result.count
            for key, value in result.metrics.items():
                sums[key] = sums.get(key, 0.0) + float(value) * result.count
        return {key: value / max(total, 1) for key, value in sums.items()}

    def _save(self) -> None:
        save_checkpoint(
            self.folder / CHECKPOINT_NAME,
            {
                "state": vars(self.state),
                "places": {name: [feed.epoch, feed.place] for name, feed in self.feeds.items()},
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT_NAME
        if not path.exists():
            return
        checkpoint = load_checkpoint(path)
        try:
            self.model.load_state_dict(checkpoint["model"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.state = _State(**checkpoint["state"])
            for name, feed in self.feeds.items():
                feed.epoch, feed.place = checkpoint["places"][name]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path}: does not fit the settings; remove it and run again ({reason})"
            ) from error
