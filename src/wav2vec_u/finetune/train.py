"""The loop of fine-tuning.

Labels may be transcripts or the pseudo-labels of self-training: `finetune` knows no difference and
reads no transcript. A training is killed and resumed without a difference in the result, because
batches, masks and dropout depend on the seed and the number of the update, and all other state is
in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wav2vec_u.config import FinetuneConfig
from wav2vec_u.corpus.rejections import Rejection
from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.features.batching import length_batches
from wav2vec_u.finetune.acoustic_model import AcousticModel, greedy_ids
from wav2vec_u.finetune.backbone import load_backbone
from wav2vec_u.finetune.batches import epoch_batches
from wav2vec_u.finetune.data import TrainingData, prepare
from wav2vec_u.finetune.losses import ctc_loss, frame_loss
from wav2vec_u.finetune.masks import draw_masks
from wav2vec_u.finetune.model import FinetunedModel, emit, out_of_memory, pad
from wav2vec_u.finetune.schedule import tri_stage_scale
from wav2vec_u.finetune.units import Units
from wav2vec_u.finetune.utterance import LabelledUtterance
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.device import pick_device
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_json, write_jsonl
from wav2vec_u.runtime.progress import MetricsLog, progress
from wav2vec_u.runtime.seeds import torch_generator

ADAM_BETAS = (0.9, 0.98)  # reference: fine-tuning configurations of wav2vec 2.0
ADAM_EPS = 1e-8
CHECKPOINT_NAME = "checkpoint.safetensors"
_LOG = "log.jsonl"
_PACK = "pack"
_NOT_FINITE = "not_finite.json"
_SHOWN_IDS = 5


@dataclass(frozen=True)
class FinetuneResult:
    """A fine-tuned model and how it came about.

    Attributes
    ----------
    model : FinetunedModel
        The best by validation.
    validation_error_rate : float
        Of its units, greedy, percent.
    best_update : int
    train_utterances : int
    held_out : list of str
        Ids of the utterances it was validated with.
    train_seconds : float
    rejected : list of Rejection
        Utterances that could not be learned from: ``too_long``, ``too_short``, ``empty``,
        ``unknown_symbol``, ``too_many_symbols`` (more than CTC can place), or why the audio could
        not be decoded.
    """

    model: FinetunedModel
    validation_error_rate: float
    best_update: int
    train_utterances: int
    held_out: list[str]
    train_seconds: float
    rejected: list[Rejection]


def finetune(
    encoder: str,
    utterances: Sequence[LabelledUtterance],
    units: Units,
    config: FinetuneConfig,
    folder: Path,
    *,
    validation: Sequence[LabelledUtterance] | None = None,
    resume: bool = False,
    keep_checkpoint: bool = False,
) -> FinetuneResult:
    """Train an encoder and a linear layer on labelled utterances.

    Parameters
    ----------
    encoder : str
        See `backbone.load_backbone`.
    utterances : sequence of LabelledUtterance
        Their ids are unique. All are decoded once, into a file of 115 MB an hour that is removed
        at the end. Either all of them say where their units are (`LabelledUtterance.timed`), and
        the network learns a unit for every output, or CTC places them.
    units : Units
    config : FinetuneConfig
    folder : Path
        Gets ``model.json``, ``model.safetensors`` and ``log.jsonl``; while training also a
        checkpoint.
    validation : sequence of LabelledUtterance or None
        By which the best checkpoint is chosen; None holds some of `utterances` out.
    resume : bool
        Go on from the checkpoint in `folder`, made with the same arguments.
    keep_checkpoint : bool
        Leave the last checkpoint in `folder`, so that a call with `resume` need not train again.

    Raises
    ------
    UserError
        If the encoder cannot be loaded, too few utterances are left, or the loss is no longer a
        number. In the last case the last good checkpoint stays in `folder`.
    """
    if not len(units):
        raise UserError("finetune: there is no symbol to learn; give more transcripts")
    network = _build(encoder, units, config)
    data = prepare(network, utterances, validation or (), units, config, folder / _PACK, resume)
    training = _Training(network, units, data, config, folder, resume)
    training.train()
    model = FinetunedModel(
        network,
        units,
        {
            "encoder": encoder,
            "best_update": training.best["update"],
            "updates": training.update,
            "validation_error_rate": training.best["error_rate"],
            "train_utterances": len(data.train),
            "train_hours": round(data.seconds(data.train) / 3600, 4),
        },
        config.device,
    )
    model.save(folder)
    result = FinetuneResult(
        model=model,
        validation_error_rate=training.best["error_rate"],
        best_update=training.best["update"],
        train_utterances=len(data.train),
        held_out=[data.pack.ids[index] for index in data.validation],
        train_seconds=data.seconds(data.train),
        rejected=data.rejected,
    )
    data.close()
    for name in (_NOT_FINITE,) if keep_checkpoint else (CHECKPOINT_NAME, _NOT_FINITE):
        (folder / name).unlink(missing_ok=True)
    return result


def _learned(network: AcousticModel, *, linear: bool) -> Iterator[nn.Parameter]:
    """Yield the weights that are learned: of the linear layer, or all others."""
    ours = {id(weight) for weight in network.head.parameters()}
    for weight in network.parameters():
        if weight.requires_grad and (id(weight) in ours) == linear:
            yield weight


def _build(encoder: str, units: Units, config: FinetuneConfig) -> AcousticModel:
    backbone = load_backbone(encoder)
    backbone.set_layer_drop(config.layer_drop)
    if config.freeze_front_end:
        backbone.freeze_front_end()
    with torch.random.fork_rng(devices=[]):
        # torch's initialisers know no other generator.
        torch.manual_seed(torch_generator(config.seed, "finetune", "head").initial_seed())
        return AcousticModel(
            backbone,
            len(units),
            outputs_per_step=config.outputs_per_step,
            dropout=config.dropout,
        )


class _Training:
    """The loop: updates, validation, checkpoints."""

    def __init__(
        self,
        network: AcousticModel,
        units: Units,
        data: TrainingData,
        config: FinetuneConfig,
        folder: Path,
        resume: bool,
    ) -> None:
        self.device = pick_device(config.device)
        self.network = network.to(self.device)
        self.units = units
        self.data = data
        self.config = config
        self.folder = folder
        self.update = 0
        self.saved_update: int | None = None
        self.epoch = 0
        self.position = 0  # batches of this epoch that were begun
        self.best: dict[str, Any] = {"error_rate": float("inf"), "update": 0, "weights": {}}
        rate = config.learning_rate or network.backbone.learning_rate
        linear_rate = config.linear_learning_rate or network.backbone.linear_factor * rate
        self.optimizer = torch.optim.Adam(
            [
                {"params": list(_learned(network, linear=False)), "highest": rate},
                {"params": list(_learned(network, linear=True)), "highest": linear_rate},
            ],
            lr=rate,
            betas=ADAM_BETAS,
            eps=ADAM_EPS,
        )
        if resume:
            self._resume()
        else:
            for name in (CHECKPOINT_NAME, _LOG):
                (folder / name).unlink(missing_ok=True)

    def train(self) -> None:
        """Train to the last update, and leave the best weights in the network."""
        config = self.config
        remaining = config.updates - self.update
        loss_sum = 0.0
        count = 0
        with MetricsLog(self.folder / _LOG) as log:
            for batch in progress(self._batches(), label="fine-tuning", total=remaining):
                loss, norm = self.step(batch)
                loss_sum += loss
                count += 1
                self.update += 1
                if self.update % config.validate_every and self.update != config.updates:
                    continue
                error_rate = self._validate()
                log.write(
                    update=self.update,
                    epoch=self.epoch,
                    loss=round(loss_sum / count, 6),
                    gradient_norm=round(norm, 6),
                    learning_rate=self.optimizer.param_groups[0]["lr"],
                    validation_error_rate=round(error_rate, 4),
                )
                loss_sum, count = 0.0, 0
                self._save()
        self.network.load_state_dict(self.best["weights"])

    def step(self, batch: list[int]) -> tuple[float, float]:
        """Do one update; return the loss a symbol, and the gradient's norm before clipping.

        Raises
        ------
        UserError
            If the loss or its gradient is no finite number; the weights are then untouched.
        """
        config = self.config
        scale = tri_stage_scale(
            self.update, config.updates, config.warm_up_share, config.hold_share
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["highest"] * scale
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        masks_rng = torch_generator(config.seed, "finetune", "masks", self.update)
        noise = torch_generator(config.seed, "finetune", "noise", self.update).initial_seed()
        waveforms, lengths = pad([self.data.pack.samples(index) for index in batch], self.device)
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(noise)  # dropout and layer drop know no other generator
                log_probs, counts = self.network(
                    waveforms,
                    lengths,
                    draw_masks(self.network.backbone, lengths, config, masks_rng),
                    freeze_backbone=self.update < config.freeze_updates,
                )
                loss = self._loss(log_probs, counts, batch)
                loss.backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError as error:
            raise out_of_memory(waveforms, self.device) from error
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm)
        if not bool(torch.isfinite(loss)) or not bool(torch.isfinite(norm)):
            raise self._not_finite(batch)
        self.optimizer.step()
        return float(loss.detach()), float(norm)

    def _loss(
        self, log_probs: torch.Tensor, counts: torch.Tensor, batch: list[int]
    ) -> torch.Tensor:
        timed = self.data.timed
        if timed is None:
            return ctc_loss(log_probs, counts, [self.data.targets[index] for index in batch])
        units = [timed[index] for index in batch]
        return frame_loss(log_probs, counts, units, self.network.output_rate_hz)

    def _batches(self) -> Iterator[list[int]]:
        while self.update < self.config.updates:
            batches = epoch_batches(
                self.data.train,
                self.data.pack.lengths,
                self.config.batch_seconds,
                self.config.seed,
                self.epoch,
            )
            for batch in batches[self.position :]:
                self.position += 1
                yield batch
                if self.update == self.config.updates:
                    return
            self.epoch += 1
            self.position = 0

    def _validate(self) -> float:
        self.network.eval()
        errors = []
        batches = length_batches(
            self.data.validation, self.data.utterance_seconds, self.config.batch_seconds
        )
        for batch in batches:
            waveforms = [self.data.pack.samples(index) for index in batch]
            for index, log_probs in zip(
                batch, emit(self.network, waveforms, self.device), strict=True
            ):
                heard = self.units.tidy(greedy_ids(log_probs, self.network.blank))
                reference = self.data.targets[index]
                errors.append(
                    count_errors([str(number) for number in reference], [str(n) for n in heard])
                )
        error_rate = pool(errors).rate
        if error_rate < self.best["error_rate"]:
            weights = {
                name: value.detach().cpu().clone()
                for name, value in self.network.state_dict().items()
            }
            self.best = {"error_rate": error_rate, "update": self.update, "weights": weights}
        return error_rate

    def _save(self) -> None:
        save_checkpoint(
            self.folder / CHECKPOINT_NAME,
            {
                "update": self.update,
                "epoch": self.epoch,
                "position": self.position,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "best": self.best,
            },
        )
        self.saved_update = self.update

    def _resume(self) -> None:
        path, log = self.folder / CHECKPOINT_NAME, self.folder / _LOG
        if path.exists():
            state = load_checkpoint(path)
            self.update, self.epoch = state["update"], state["epoch"]
            self.position = state["position"]
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.best = state["best"]
            self.saved_update = self.update
        if log.exists():
            # What was logged after the checkpoint is done, and logged, again.
            write_jsonl(log, [row for row in _whole_rows(log) if row["update"] <= self.update])

    def _not_finite(self, batch: list[int]) -> UserError:
        names = [self.data.pack.ids[index] for index in batch]
        listed = self.folder / _NOT_FINITE
        write_json(listed, {"update": self.update, "utterances": names})
        shown = ", ".join(names[:_SHOWN_IDS])
        if len(names) > _SHOWN_IDS:
            shown += f" and {len(names) - _SHOWN_IDS} more in {listed}"
        kept = (
            f"; the state after update {self.saved_update} is kept in "
            f"{self.folder / CHECKPOINT_NAME}"
            if self.saved_update is not None
            else ""
        )
        return UserError(
            f"finetune.learning_rate: the loss is not a number at update {self.update}, with the "
            f"utterances {shown}; lower the rate, or take out what is wrong with them{kept}"
        )


def _whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    rows = read_jsonl(path)
    while True:
        try:
            yield next(rows)
        except (StopIteration, ValueError):  # a kill may have cut the last line
            return
