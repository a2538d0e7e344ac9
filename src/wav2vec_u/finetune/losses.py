"""What fine-tuning minimises: CTC where only the order of units is known, else cross-entropy.

A transcript says which units come one after the other, and connectionist temporal classification
(Graves et al., 2006) sums over all ways to place them. A model that has heard words also knows when
they were said: then every output of the network has a unit of its own to learn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wav2vec_u.finetune.utterance import UNKNOWN, TimedUnit


def ctc_loss(
    log_probs: torch.Tensor, counts: torch.Tensor, targets: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Return CTC's negative log-likelihood a symbol.

    Parameters
    ----------
    log_probs : (B, T, V + 1) tensor
        The blank is the last output.
    counts : (B,) int tensor
        Outputs of each utterance.
    targets : sequence of sequences of int
        Ids; each must fit its outputs.
    """
    lengths = torch.tensor([len(target) for target in targets])
    joined = torch.tensor([number for target in targets for number in target], dtype=torch.long)
    total = nn.functional.ctc_loss(
        log_probs.transpose(0, 1),  # (T, B, V + 1)
        joined.to(log_probs.device),
        input_lengths=counts,
        target_lengths=lengths.to(log_probs.device),
        blank=log_probs.shape[2] - 1,
        reduction="sum",
    )
    return total / len(joined)


def frame_loss(
    log_probs: torch.Tensor,
    counts: torch.Tensor,
    timed: Sequence[Sequence[TimedUnit]],
    rate_hz: float,
) -> torch.Tensor:
    """Return the cross-entropy an output whose unit is known; 0 where none is.

    Parameters
    ----------
    log_probs : (B, T, V + 1) tensor
        The last output stands for pauses.
    counts : (B,) int tensor
        Outputs of each utterance.
    timed : sequence of sequences of TimedUnit
    rate_hz : float
        Outputs a second.
    """
    wanted = np.full(log_probs.shape[:2], UNKNOWN, dtype=np.int64)  # (B, T)
    pause = log_probs.shape[2] - 1
    for row, (count, units) in enumerate(zip(counts.tolist(), timed, strict=True)):
        wanted[row, :count] = units_of_outputs(units, count, rate_hz, pause)
    labels = torch.from_numpy(wanted).to(log_probs.device)
    total = nn.functional.nll_loss(
        log_probs.flatten(0, 1), labels.flatten(), ignore_index=UNKNOWN, reduction="sum"
    )
    return total / (labels != UNKNOWN).sum().clamp(min=1)


def units_of_outputs(
    timed: Sequence[TimedUnit], n_outputs: int, rate_hz: float, pause: int
) -> NDArray[np.int64]:
    """Return the unit in which the middle of each output lies, (n_outputs,).

    >>> units_of_outputs([TimedUnit(7, 0.1, 0.25), TimedUnit(8, 0.25, 0.3)], 4, 10.0, pause=9)
    array([9, 7, 8, 9])
    """
    units = np.full(n_outputs, pause, dtype=np.int64)
    for item in timed:
        # Output t has its middle at (t + 1/2) / rate.
        first = max(0, math.ceil(item.start_s * rate_hz - 0.5))
        units[first : max(first, math.ceil(item.end_s * rate_hz - 0.5))] = item.unit
    return units
