"""The labelled ceiling: the same generator on the same segments, taught with transcripts.

What supervised training cannot get out of a set of segments no label-free training will. The
difference between the two error rates (`gap`) tells whether to work on the features or on the
matching. The ceiling is trained by connectionist temporal classification (CTC, Graves et al.,
2006) with one extra output as its blank; it is used for this figure and for nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wav2vec_u.decode.greedy import SILENCE_ID
from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.runtime.seeds import numpy_generator, torch_generator

Vectors = npt.NDArray[np.float32]


class Utterances(Protocol):
    """Segment vectors that are read when they are needed."""

    def __len__(self) -> int: ...

    def length(self, index: int) -> int:
        """Number of segments S of one utterance."""

    def vectors(self, index: int) -> Vectors:
        """Segments of one utterance, (S, P)."""


@dataclass(frozen=True)
class CeilingSettings:
    """How long the ceiling may learn; the defaults take about a minute for an hour of speech.

    Limits are counted in updates and segments, never in seconds, so that the figure does not
    depend on the machine. Where segments are frames, 50 a second, they are two hours of speech and
    two minutes an utterance.
    """

    learning_rate: float = 3e-3
    batch_segments: int = 1_000
    max_updates: int = 4_000
    max_train_segments: int = 400_000
    max_utterance_segments: int = 6_000
    validation_share: float = 0.1
    patience: int = 10  # passes over the data without a better validation error


@dataclass(frozen=True)
class Ceiling:
    """A trained ceiling.

    Attributes
    ----------
    model : nn.Module
        Generator with V + 1 outputs, the last one the blank.
    mean, scale : (P,) float32
        Standardisation of the inputs: a linear map, so the function class stays the generator's.
    validation_per : float
        Error rate on the labelled utterances that were held out, percent.
    updates : int
    train_utterances : int
    left_out : int
        Labelled utterances that were not learned from: those with more phones than segments, which
        make the figure pessimistic for a fast voice, and those beyond the limits.
    """

    model: nn.Module
    mean: Vectors
    scale: Vectors
    validation_per: float
    updates: int
    train_utterances: int
    left_out: int

    def transcribe(self, vectors: Vectors) -> list[int]:
        """Greedy CTC: arg-max, equal neighbours merged, blank and silence dropped.

        Parameters
        ----------
        vectors : (S, P) float32

        Returns
        -------
        list of int
            Phone ids.
        """
        if len(vectors) == 0:
            return []
        self.model.eval()
        batch = torch.from_numpy((vectors - self.mean) / self.scale)[None]  # (1, S, P)
        mask = torch.ones(batch.shape[:2], dtype=torch.bool)
        with torch.inference_mode():
            # An even kernel makes one output more than there are segments. It is kept: the model is
            # free to answer one step late, and would otherwise lose every last phone.
            logits, output_mask = self.model(batch, mask)  # (1, S', V + 1), (1, S')
        labels = logits[0, : int(output_mask.sum())].argmax(dim=1)
        blank = logits.shape[2] - 1
        merged = torch.unique_consecutive(labels).tolist()
        return [label for label in merged if label not in (blank, SILENCE_ID)]


def train_ceiling(
    utterances: Utterances,
    targets: Sequence[Sequence[int]],
    n_phones: int,
    build: Callable[[int, int], nn.Module],
    seed: int,
    settings: CeilingSettings = CeilingSettings(),
    stride: int = 1,
) -> Ceiling | None:
    """Train the generator with labels.

    Parameters
    ----------
    utterances : Utterances
        Labelled training utterances.
    targets : sequence of sequences of int
        Phone ids without silence, one sequence for each utterance.
    n_phones : int
        V, silence included.
    build : callable
        ``build(P, outputs)`` makes an untrained generator; it is called with V + 1 outputs.
    seed : int
    settings : CeilingSettings
    stride : int
        Segments that become one output of the generator.

    Returns
    -------
    Ceiling or None
        None where fewer than ten utterances can be learned from: CTC needs at least as many
        outputs as phones, with one more between equal neighbours.
    """
    order = numpy_generator(seed, "ceiling", "utterances").permutation(len(utterances))
    usable = [
        int(index)
        for index in order
        if _fits(targets[index], utterances.length(int(index)), stride, settings)
    ]
    usable = _up_to(usable, utterances, settings.max_train_segments)
    left_out = len(order) - len(usable)
    if len(usable) < 10:
        return None
    held_out = max(1, round(len(usable) * settings.validation_share))
    validation, train = usable[:held_out], usable[held_out:]
    mean, scale = _moments(utterances, train)

    with torch.random.fork_rng(devices=[]):
        # Weights and dropout draw from torch's global state.
        torch.manual_seed(torch_generator(seed, "ceiling", "weights").initial_seed())
        model = build(len(mean), n_phones + 1)
        best, best_per, updates = _fit(
            model, utterances, targets, train, validation, mean, scale, seed, settings
        )
    model.load_state_dict(best)
    return Ceiling(model, mean, scale, best_per, updates, len(train), left_out)


def _fit(
    model: nn.Module,
    utterances: Utterances,
    targets: Sequence[Sequence[int]],
    train: list[int],
    validation: list[int],
    mean: Vectors,
    scale: Vectors,
    seed: int,
    settings: CeilingSettings,
) -> tuple[dict[str, torch.Tensor], float, int]:
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    rng = numpy_generator(seed, "ceiling", "batches")
    best = copy.deepcopy(model.state_dict())
    best_per = float("inf")
    since_best = updates = 0
    while updates < settings.max_updates and since_best < settings.patience:
        model.train()
        for batch in _batches(train, utterances, settings.batch_segments, rng):
            loss = _ctc_loss(model, utterances, targets, batch, mean, scale)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            updates += 1
            if updates == settings.max_updates:
                break
        trial = Ceiling(model, mean, scale, 0.0, updates, len(train), 0)
        per = _error_rate(trial, utterances, targets, validation)
        since_best += 1
        if per < best_per:
            best, best_per, since_best = copy.deepcopy(model.state_dict()), per, 0
    return best, best_per, updates


def _ctc_loss(
    model: nn.Module,
    utterances: Utterances,
    targets: Sequence[Sequence[int]],
    batch: list[int],
    mean: Vectors,
    scale: Vectors,
) -> torch.Tensor:
    inputs = [torch.from_numpy((utterances.vectors(i) - mean) / scale) for i in batch]
    lengths = torch.tensor([len(item) for item in inputs])
    padded = nn.utils.rnn.pad_sequence(inputs, batch_first=True)  # (B, S, P)
    mask = torch.arange(padded.shape[1])[None] < lengths[:, None]  # (B, S)
    logits, output_mask = model(padded, mask)  # (B, S', V + 1), (B, S')
    labels = [torch.tensor(list(targets[i]), dtype=torch.long) for i in batch]
    return nn.functional.ctc_loss(
        logits.log_softmax(dim=2).transpose(0, 1),  # (S', B, V + 1)
        torch.cat(labels),
        input_lengths=output_mask.sum(dim=1),
        target_lengths=torch.tensor([len(label) for label in labels]),
        blank=logits.shape[2] - 1,
        zero_infinity=True,
    )


def _fits(target: Sequence[int], n_segments: int, stride: int, settings: CeilingSettings) -> bool:
    repeats = sum(left == right for left, right in pairwise(target))
    needed = len(target) + repeats
    return 0 < needed <= -(-n_segments // stride) and n_segments <= settings.max_utterance_segments


def _up_to(indices: list[int], utterances: Utterances, limit: int) -> list[int]:
    total = np.cumsum([utterances.length(index) for index in indices])
    return indices[: int(np.searchsorted(total, limit, side="right"))]


def _moments(utterances: Utterances, indices: list[int]) -> tuple[Vectors, Vectors]:
    count, total, squares = 0, np.float64(0), np.float64(0)
    for index in indices:
        vectors = utterances.vectors(index).astype(np.float64)
        count += len(vectors)
        total = total + vectors.sum(axis=0)
        squares = squares + (vectors**2).sum(axis=0)
    mean = np.asarray(total / count)
    variance = np.maximum(np.asarray(squares / count) - mean**2, 0.0)
    scale = np.where(variance > 1e-10, np.sqrt(variance), 1.0)  # constant dimensions stay as is
    return mean.astype(np.float32), scale.astype(np.float32)


def _batches(
    indices: list[int], utterances: Utterances, batch_segments: int, rng: np.random.Generator
) -> Iterator[list[int]]:
    # Neighbours in length share a batch, so that little of it is padding.
    by_length = sorted(indices, key=lambda index: (utterances.length(index), index))
    batches: list[list[int]] = [[]]
    for index in by_length:
        if batches[-1] and utterances.length(index) * (len(batches[-1]) + 1) > batch_segments:
            batches.append([])
        batches[-1].append(index)
    for position in rng.permutation(len(batches)):
        yield batches[position]


def _error_rate(
    ceiling: Ceiling,
    utterances: Utterances,
    targets: Sequence[Sequence[int]],
    indices: list[int],
) -> float:
    errors = [
        count_errors(
            [str(label) for label in targets[index]],
            [str(label) for label in ceiling.transcribe(utterances.vectors(index))],
        )
        for index in indices
    ]
    return pool(errors).rate
