"""Teach a generator the labels of segments by cross-entropy, from stores that stay on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from wav2vec_u.matching.generator import Generator
from wav2vec_u.runtime.seeds import numpy_generator, torch_generator

CROP = 100  # segments that are learned from at once
BATCH_CROPS = 32
WINDOW_BATCHES = 8  # whose crops are sorted by length
UNKNOWN = -1  # label that asks for nothing
LEAST_WARM_UP = 0.3  # share of the updates in which the learning rate rises


@dataclass(frozen=True)
class Lesson:
    """One utterance to learn from.

    Attributes
    ----------
    vectors : callable
        Reads its (S, P) float32.
    labels : ndarray, shape (S,)
        Outputs of the generator, or `UNKNOWN`.
    """

    vectors: Callable[[], NDArray[np.float32]]
    labels: NDArray[np.int32]


_Crop = tuple[Lesson, int]  # and the first segment that is learned from


def teach(
    generator: Generator,
    lessons: Sequence[Lesson],
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    least_updates: int = 1,
) -> float:
    """Teach a generator, from fresh weights.

    Parameters
    ----------
    generator : Generator
        Of stride 1; trained in place, and left in evaluation mode.
    lessons : sequence of Lesson
    epochs : int
    learning_rate, weight_decay : float
        Of AdamW.
    seed : int
    least_updates : int
        More epochs are made where they would hold fewer updates.

    Returns
    -------
    float
        Mean loss of the last epoch, nats a labelled segment.
    """
    crops = [(lesson, start) for lesson in lessons for start in range(0, len(lesson.labels), CROP)]
    order = numpy_generator(seed, "crops")
    rng = torch_generator(seed, "dropout")
    optimizer = torch.optim.AdamW(generator.parameters(), learning_rate, weight_decay=weight_decay)
    batches = -(-len(crops) // BATCH_CROPS)
    epochs = max(epochs, -(-least_updates // batches))
    steps = epochs * batches
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps + 1, pct_start=LEAST_WARM_UP
    )
    generator.train()
    mean_loss = 0.0
    for _ in range(epochs):
        total = known = 0.0
        for batch in _batches(crops, order):
            vectors, labels, mask = _padded(batch)
            logits, _ = generator(vectors, mask, rng)  # (B, S', V)
            # The padding of the reference makes one output more than there are segments.
            logits = logits[:, : labels.shape[1]]  # (B, S, V)
            count = int((labels != UNKNOWN).sum())
            loss = F.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), ignore_index=UNKNOWN, reduction="sum"
            )
            optimizer.zero_grad()
            (loss / max(count, 1)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
            known += count
        mean_loss = total / max(known, 1.0)
    generator.eval()
    return mean_loss


def _batches(crops: Sequence[_Crop], order: np.random.Generator) -> Iterator[list[_Crop]]:
    """Yield batches in random order, of crops of like lengths, so that little is padded."""
    shuffled = [crops[place] for place in order.permutation(len(crops)).tolist()]
    for first in range(0, len(shuffled), WINDOW_BATCHES * BATCH_CROPS):
        window = sorted(shuffled[first : first + WINDOW_BATCHES * BATCH_CROPS], key=_length)
        starts = order.permutation(range(0, len(window), BATCH_CROPS)).tolist()
        for start in starts:
            yield window[start : start + BATCH_CROPS]


def _length(crop: _Crop) -> int:
    lesson, start = crop
    return min(CROP, len(lesson.labels) - start)


def _padded(
    crops: Sequence[_Crop],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return vectors (B, S, P), labels (B, S) and mask (B, S)."""
    pieces = [lesson.vectors()[start : start + CROP] for lesson, start in crops]
    longest = max(len(piece) for piece in pieces)
    vectors = np.zeros((len(pieces), longest, pieces[0].shape[1]), dtype=np.float32)
    labels = np.full((len(pieces), longest), UNKNOWN, dtype=np.int64)
    mask = np.zeros((len(pieces), longest), dtype=bool)
    for row, ((lesson, start), piece) in enumerate(zip(crops, pieces, strict=True)):
        vectors[row, : len(piece)] = piece
        labels[row, : len(piece)] = lesson.labels[start : start + CROP]
        mask[row, : len(piece)] = True
    return torch.from_numpy(vectors), torch.from_numpy(labels), torch.from_numpy(mask)
