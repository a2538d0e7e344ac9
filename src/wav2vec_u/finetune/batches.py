"""Which utterances are held out, and which share a batch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.features.batching import length_batches
from wav2vec_u.runtime.seeds import numpy_generator

_WINDOW_BATCHES = 8  # sorted by length together: little padding, and other company in every epoch


def hold_out(
    texts: Sequence[Hashable], share: float, most: int, seed: int
) -> tuple[list[int], list[int]]:
    """Choose utterances for validation, all utterances of one text or none of them.

    What is read aloud twice must not be learned in one reading and asked for in the other.

    Parameters
    ----------
    texts : sequence
        What is said in each utterance, compared by equality.
    share : float
        Of all utterances, reached or exceeded by less than one text.
    most : int
        Upper bound on the utterances wanted.
    seed : int

    Returns
    -------
    train, validation : list of int
        Sorted. The last text is always left for training.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(text, []).append(index)
    members = list(groups.values())
    wanted = min(most, share * len(texts))
    validation: list[int] = []
    for number in numpy_generator(seed, "finetune", "validation").permutation(len(members))[:-1]:
        if len(validation) >= wanted:
            break
        validation += members[number]
    chosen = set(validation)
    return [index for index in range(len(texts)) if index not in chosen], sorted(validation)


def epoch_batches(
    indices: Sequence[int],
    lengths: npt.NDArray[np.int64],
    batch_seconds: float,
    seed: int,
    epoch: int,
) -> list[list[int]]:
    """Share out all utterances among batches of like length, in an order of their own each epoch.

    Parameters
    ----------
    indices : sequence of int
        Utterances to use.
    lengths : (N,) int64
        Samples of all utterances.
    batch_seconds : float
        Bound on a batch padded to its longest utterance.
    seed, epoch : int
        The batches depend on nothing else.
    """
    rng = numpy_generator(seed, "finetune", "epoch", epoch)
    shuffled = rng.permutation(np.asarray(indices, dtype=np.int64)).tolist()
    mean_seconds = float(lengths[shuffled].mean()) / SAMPLE_RATE
    window = max(1, round(_WINDOW_BATCHES * batch_seconds / mean_seconds))
    batches = list(
        length_batches(
            shuffled, lambda index: float(lengths[index]) / SAMPLE_RATE, batch_seconds, window
        )
    )
    return [batches[number] for number in rng.permutation(len(batches))]
