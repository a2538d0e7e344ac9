"""Batches of crops of like length: a function of seed and epoch, so that training can resume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.encoder.encode import FRAME_SAMPLES
from wav2vec_u.pretrain.pack import AudioPack
from wav2vec_u.pretrain.targets import Targets
from wav2vec_u.runtime.seeds import numpy_generator

LENGTH_JITTER = 0.1  # utterances of like length meet other ones every epoch


@dataclass(frozen=True)
class Batch:
    """Crops of one length.

    Attributes
    ----------
    utterances : list of int
        Rows of the pack.
    starts : list of int
        First sample of each crop, a multiple of 20 ms, so that targets stay aligned.
    n_samples : int
        Samples of every crop: that of the shortest utterance, so that nothing is padding.
    """

    utterances: list[int]
    starts: list[int]
    n_samples: int


def epoch_batches(
    indices: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    batch_seconds: float,
    max_seconds: float,
    seed: int,
    epoch: int,
) -> list[Batch]:
    """Group utterances into batches for one pass over the data.

    Parameters
    ----------
    indices : (N,) int64
        Rows of the pack that are learned from.
    lengths : (M,) int64
        Samples of every row of the pack.
    batch_seconds : float
        Audio in a batch, at most; a single crop may be longer.
    max_seconds : float
        Longest crop.
    seed, epoch : int

    Returns
    -------
    list of Batch
        In random order; every utterance in exactly one.
    """
    rng = numpy_generator(seed, "epoch", epoch)
    longest = int(max_seconds * SAMPLE_RATE)
    cropped = np.minimum(lengths[indices], longest)
    jitter = rng.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, len(indices))
    order = np.argsort(cropped * jitter, kind="stable")
    budget = batch_seconds * SAMPLE_RATE
    groups: list[list[int]] = [[]]
    most = 0
    for place in order:
        most = max(most, int(cropped[place]))
        if groups[-1] and (len(groups[-1]) + 1) * most > budget:
            groups.append([])
            most = int(cropped[place])
        groups[-1].append(int(indices[place]))
    batches = []
    for group in rng.permutation(len(groups)):
        utterances = groups[group]
        n_samples = min(longest, int(lengths[utterances].min()))
        shifts = (lengths[utterances] - n_samples) // FRAME_SAMPLES
        starts = rng.integers(0, shifts + 1) * FRAME_SAMPLES
        batches.append(Batch(utterances, starts.tolist(), n_samples))
    return batches


def load_waveforms(pack: AudioPack, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the crops, (B, samples) float32, and their lengths, (B,) int64."""
    crops = [
        pack.samples(index, start, start + batch.n_samples)
        for index, start in zip(batch.utterances, batch.starts, strict=True)
    ]
    return torch.from_numpy(np.stack(crops)), torch.full((len(crops),), batch.n_samples)


def load_targets(targets: Targets, batch: Batch, steps: int, codebooks: int) -> torch.Tensor:
    """Return the codes behind the steps of every crop, (B, T, G) int64."""
    rows = [
        targets.codes(index, start // FRAME_SAMPLES, steps * codebooks)
        for index, start in zip(batch.utterances, batch.starts, strict=True)
    ]
    return torch.from_numpy(np.stack(rows)).view(len(rows), steps, codebooks)
