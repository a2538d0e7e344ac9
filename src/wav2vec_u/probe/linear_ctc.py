"""A linear layer on frozen frames, taught phones by CTC: how far the frames are from the phones.

The question of wav2vec-U, section 3.1 and figure 2. A frame goes through one linear map and nothing
else, so the error rate tells what stands in the frame, not what a network can make of it.
Connectionist temporal classification is that of Graves et al. (2006).

All encoders answer at 50 labels a second, whatever their frame rate: pairs of faster frames are
stacked, and slower frames give several labels each. Both are linear maps. Without the second, an
encoder of 25 frames a second could not say the phones of fast speech at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wav2vec_u.evaluate.error_rate import Errors, bootstrap_interval, count_errors, pool
from wav2vec_u.features.moments import STD_FLOOR
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator

LABEL_RATE_HZ = 50.0
VARIANCE_FLOOR = 1e-3  # where the numbers of a frame have variance 1
BLOCK_INPUTS = 8_192  # worked on at once
MIN_UTTERANCES = 10  # that can be learned from

Frames = npt.NDArray[Any]  # (T, D) float16 or float32
Array = npt.NDArray[np.float32]
Parameters = tuple[torch.Tensor, torch.Tensor]  # weight, bias


@dataclass(frozen=True)
class ProbeSettings:
    """How long the probe may learn.

    Found on MFCC of an hour of a real voice: its error rate falls from 66 to 61 % only when the
    learning rate falls. Limits are counted in passes over the data, never in seconds, so that the
    figure does not depend on the machine.
    """

    learning_rate: float = 0.03
    rate_drop: float = 0.3  # factor on the learning rate, each time the validation gains no more
    rate_drops: int = 3
    patience: int = 3  # rounds without a lower validation error, before the rate drops
    round_updates: int = 100  # a round is a pass over the data, or several of a small one
    max_rounds: int = 80
    batch_labels: int = 1_500  # 30 s of speech, padding included
    validation_share: float = 0.1
    bootstrap_samples: int = 1_000


@dataclass(frozen=True)
class ProbeResult:
    """What a probe learned, and how well it reads the test utterances.

    Attributes
    ----------
    per : float
        Phone error rate on the test utterances, percent.
    per_low, per_high : float
        Its 95 % interval, by resampling utterances.
    validation_per : float
        On the part of the training utterances that was held out to end the training. What is chosen
        among probes is chosen by this.
    errors : list of Errors
        Of every test utterance.
    hypotheses : list of list of int
        Phone ids read in every test utterance.
    train_utterances, validation_utterances : int
        How many the layer was trained on and validated on.
    too_fast : int
        Training utterances left out: CTC needs a label for every phone, and one more between two
        equal ones.
    updates : int
        Steps of the optimiser.
    """

    per: float
    per_low: float
    per_high: float
    validation_per: float
    errors: list[Errors]
    hypotheses: list[list[int]]
    train_utterances: int
    validation_utterances: int
    too_fast: int
    updates: int


def probe_per(
    train_frames: Sequence[Frames],
    train_targets: Sequence[Sequence[int]],
    test_frames: Sequence[Frames],
    test_targets: Sequence[Sequence[int]],
    n_phones: int,
    seed: int,
    *,
    frame_rate_hz: float = LABEL_RATE_HZ,
    settings: ProbeSettings = ProbeSettings(),
) -> ProbeResult:
    """Train a linear layer with labels and measure the phone error rate of its greedy reading.

    Frames are read batch by batch and never held, so the sequences may stand on disk.

    Parameters
    ----------
    train_frames, test_frames : sequence of (T, D) arrays
        Frames of every utterance, float16 or float32. A test utterance without frames is read as
        nothing.
    train_targets, test_targets : sequence of sequences of int
        Phone ids, 0 to ``n_phones - 1``, without silence.
    n_phones : int
        V; the layer has V + 1 outputs, the last one the blank.
    seed : int
        Of the validation part, the order of the batches and the interval.
    frame_rate_hz : float
        Frames a second.
    settings : ProbeSettings

    Returns
    -------
    ProbeResult

    Raises
    ------
    UserError
        If fewer than ten training utterances can be learned from.
    """
    rate = _Rate.of(frame_rate_hz)
    usable = [
        index
        for index, target in enumerate(train_targets)
        if 0 < labels_needed(target) <= rate.labels(len(train_frames[index]))
    ]
    if len(usable) < MIN_UTTERANCES:
        raise UserError(
            f"--references: a probe needs {MIN_UTTERANCES} transcribed training utterances, and "
            f"only {len(usable)} of {len(train_frames)} can be learned from; transcribe more"
        )
    order = numpy_generator(seed, "probe", "validation").permutation(len(usable))
    held_out = max(1, round(len(usable) * settings.validation_share))
    validation = [usable[int(i)] for i in order[:held_out]]
    train = [usable[int(i)] for i in order[held_out:]]

    data = _Data(train_frames, train_targets, rate)
    reader = _Reader.untrained(data, train, n_phones)
    best_per, updates = _fit(reader, data, train, validation, seed, settings)
    hypotheses = reader.read(test_frames, settings.batch_labels)
    errors = _errors(test_targets, hypotheses)
    low, high = bootstrap_interval(
        errors, settings.bootstrap_samples, numpy_generator(seed, "probe", "bootstrap")
    )
    return ProbeResult(
        per=pool(errors).rate,
        per_low=low,
        per_high=high,
        validation_per=best_per,
        errors=errors,
        hypotheses=hypotheses,
        train_utterances=len(train),
        validation_utterances=len(validation),
        too_fast=sum(len(target) > 0 for target in train_targets) - len(usable),
        updates=updates,
    )


def labels_needed(target: Sequence[int]) -> int:
    """Count the labels that CTC needs for a sequence: a blank stands between equal neighbours.

    >>> labels_needed([3, 3, 1])
    4
    """
    return len(target) + sum(left == right for left, right in pairwise(target))


@dataclass(frozen=True)
class _Rate:
    """How frames become labels: `stack` frames to one input, `split` labels from each."""

    stack: int
    split: int

    @classmethod
    def of(cls, frame_rate_hz: float) -> _Rate:
        return cls(
            stack=max(1, round(frame_rate_hz / LABEL_RATE_HZ)),
            split=max(1, round(LABEL_RATE_HZ / frame_rate_hz)),
        )

    def inputs(self, n_frames: int) -> int:
        return -(-n_frames // self.stack)

    def labels(self, n_frames: int) -> int:
        return self.inputs(n_frames) * self.split

    def stacked(self, frames: Frames) -> Array:
        """Put neighbours into one row, (T, D) to (ceil(T / stack), stack * D)."""
        rows = np.asarray(frames, dtype=np.float32)
        missing = -len(rows) % self.stack
        if missing:  # the last frame stands in for those that are missing
            rows = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
        return rows.reshape(-1, self.stack * rows.shape[1])


@dataclass(frozen=True)
class _Data:
    frames: Sequence[Frames]
    targets: Sequence[Sequence[int]]
    rate: _Rate

    def batches(self, indices: Sequence[int], batch_labels: int) -> list[list[int]]:
        """Group utterances of like length, so that little of a batch is padding."""
        lengths = {index: self.rate.labels(len(self.frames[index])) for index in indices}
        batches: list[list[int]] = [[]]
        for index in sorted(indices, key=lambda index: (lengths[index], index)):
            if batches[-1] and lengths[index] * (len(batches[-1]) + 1) > batch_labels:
                batches.append([])
            batches[-1].append(index)
        return batches if batches[0] else []


class _Reader:
    """The linear layer, learned in the coordinates in which the training inputs are white.

    Neighbouring frames, and the numbers of one frame, are strongly correlated; gradient descent on
    them as they are needs ten times the passes. The whitening is linear, so what is learned is
    still one linear map of the frames.
    """

    def __init__(self, layer: nn.Linear, mean: Array, whitening: torch.Tensor, rate: _Rate) -> None:
        self.layer = layer
        self._mean = mean
        self._whitening = whitening  # (stack * D, stack * D)
        self._rate = rate
        self.blank = layer.out_features // rate.split - 1

    @classmethod
    def untrained(cls, data: _Data, train: Sequence[int], n_phones: int) -> _Reader:
        mean, whitening = _whitening(data, train)
        layer = nn.Linear(len(mean), data.rate.split * (n_phones + 1))
        # A softmax on a linear map needs no random start; zeros make the seed matter less.
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return cls(layer, mean, whitening, data.rate)

    def log_probs(self, frames: Sequence[Frames]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-probabilities (B, T, V + 1) of a padded batch, and the lengths (B,)."""
        inputs = [torch.from_numpy(self._rate.stacked(item) - self._mean) for item in frames]
        lengths = torch.tensor([len(item) * self._rate.split for item in inputs])
        padded = nn.utils.rnn.pad_sequence(inputs, batch_first=True)  # (B, T', stack * D)
        # Whitening the few rows of the weight is cheaper than whitening the frames.
        weight = self.layer.weight @ self._whitening  # (split * (V + 1), stack * D)
        logits = nn.functional.linear(padded, weight, self.layer.bias)  # (B, T', split * (V + 1))
        labels = logits.reshape(len(inputs), -1, self.blank + 1)  # (B, T, V + 1)
        return labels.log_softmax(dim=2), lengths

    def loss(self, frames: Sequence[Frames], targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the negative log-likelihood of a batch, per phone."""
        log_probs, lengths = self.log_probs(frames)
        labels = torch.tensor([phone for target in targets for phone in target])
        total = nn.functional.ctc_loss(
            log_probs.transpose(0, 1),  # (T, B, V + 1)
            labels,
            input_lengths=lengths,
            target_lengths=torch.tensor([len(target) for target in targets]),
            blank=self.blank,
            reduction="sum",
        )
        return total / len(labels)

    @torch.no_grad()
    def read(self, frames: Sequence[Frames], batch_labels: int) -> list[list[int]]:
        """Read utterances greedily: arg-max, equal neighbours merged, blanks dropped."""
        hypotheses: list[list[int]] = [[] for _ in frames]
        present = [index for index, item in enumerate(frames) if len(item)]
        data = _Data(frames, [], self._rate)
        for batch in data.batches(present, batch_labels):
            log_probs, lengths = self.log_probs([frames[index] for index in batch])
            best = log_probs.argmax(dim=2)  # (B, T)
            for index, row, length in zip(batch, best, lengths.tolist(), strict=True):
                merged = torch.unique_consecutive(row[:length]).tolist()
                hypotheses[index] = [label for label in merged if label != self.blank]
        return hypotheses


def _whitening(data: _Data, train: Sequence[int]) -> tuple[Array, torch.Tensor]:
    """Return the mean (D,) of the training inputs, and the map (D, D) that makes them white."""
    total: Any = 0.0
    count = 0
    for inputs in _blocks(data, train):
        total = total + inputs.sum(dim=0, dtype=torch.float64)  # (D,)
        count += len(inputs)
    mean = (total / count).float()
    products = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for inputs in _blocks(data, train):
        centred = inputs - mean
        products += centred.T @ centred
    spread = (products.diagonal() / count).sqrt()  # (D,)
    # Single numbers of Transformers may be a hundred times as large as the rest: all are brought
    # to one size first. Numbers that never change become 0.
    scale = torch.where(spread > STD_FLOOR, spread, 1.0)
    variances, directions = torch.linalg.eigh(products / count / torch.outer(scale, scale))
    # Directions in which the inputs hardly move hold little but rounding errors.
    sizes = (variances.clamp(min=0) + VARIANCE_FLOOR).sqrt()
    whitening = (directions / sizes) @ directions.T / scale
    return mean.numpy(), whitening.float()


def _blocks(data: _Data, indices: Sequence[int]) -> Iterator[torch.Tensor]:
    """Yield all inputs, (n, stack * D), in blocks of at least `BLOCK_INPUTS`."""
    pending: list[Array] = []
    for index in indices:
        pending.append(data.rate.stacked(data.frames[index]))
        if sum(map(len, pending)) >= BLOCK_INPUTS:
            yield torch.from_numpy(np.concatenate(pending))
            pending.clear()
    if pending:
        yield torch.from_numpy(np.concatenate(pending))


def _fit(
    reader: _Reader,
    data: _Data,
    train: Sequence[int],
    validation: Sequence[int],
    seed: int,
    settings: ProbeSettings,
) -> tuple[float, int]:
    """Train until the validation gains no more at the lowest rate; keep the best layer."""
    optimizer = torch.optim.Adam(reader.layer.parameters(), lr=settings.learning_rate)
    rng = numpy_generator(seed, "probe", "batches")
    batches = data.batches(train, settings.batch_labels)
    validation_frames = [data.frames[index] for index in validation]
    validation_targets = [data.targets[index] for index in validation]
    best, best_per = _copy(reader.layer), float("inf")
    passes = -(-settings.round_updates // len(batches))
    since_best = drops = updates = 0
    for _ in range(settings.max_rounds):
        for batch in _shuffled(batches * passes, rng):
            loss = reader.loss(
                [data.frames[index] for index in batch], [data.targets[index] for index in batch]
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(reader.layer.parameters(), 5.0)
            optimizer.step()
            updates += 1
        hypotheses = reader.read(validation_frames, settings.batch_labels)
        per = pool(_errors(validation_targets, hypotheses)).rate
        since_best += 1
        if per < best_per:
            best, best_per, since_best = _copy(reader.layer), per, 0
        if since_best == settings.patience:
            if drops == settings.rate_drops:
                break
            drops, since_best = drops + 1, 0
            _restore(reader.layer, best)
            for group in optimizer.param_groups:
                group["lr"] *= settings.rate_drop
    _restore(reader.layer, best)
    return best_per, updates


def _shuffled(batches: list[list[int]], rng: np.random.Generator) -> Iterator[list[int]]:
    for position in rng.permutation(len(batches)):
        yield batches[position]


def _copy(layer: nn.Linear) -> Parameters:
    return layer.weight.detach().clone(), layer.bias.detach().clone()


@torch.no_grad()
def _restore(layer: nn.Linear, parameters: Parameters) -> None:
    layer.weight.copy_(parameters[0])
    layer.bias.copy_(parameters[1])


def _errors(targets: Sequence[Sequence[int]], hypotheses: Sequence[Sequence[int]]) -> list[Errors]:
    return [
        count_errors([str(phone) for phone in target], [str(phone) for phone in hypothesis])
        for target, hypothesis in zip(targets, hypotheses, strict=True)
    ]
