"""Cross-entropy of outputs whose units are known, against slow code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.finetune.losses import frame_loss, units_of_outputs
from wav2vec_u.finetune.utterance import UNKNOWN, TimedUnit

PAUSE = 3
times = st.lists(st.floats(0, 2.5), min_size=2, max_size=8, unique=True).map(sorted)


@settings(deadline=None)
@given(times=times, seed=st.integers(0, 1000), count=st.integers(0, 25))
def test_every_output_has_the_unit_at_its_middle(times: list[float], seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    timed = [
        TimedUnit(int(rng.integers(-1, PAUSE)), start, end)
        for start, end in zip(times[::2], times[1::2], strict=False)
    ]
    found = units_of_outputs(timed, count, 10.0, PAUSE)
    assert len(found) == count
    for place, unit in enumerate(found.tolist()):
        middle = (place + 0.5) / 10.0
        wanted = [item.unit for item in timed if item.start_s <= middle < item.end_s]
        # On the very edge, rounding decides.
        if all(abs(middle - edge) > 1e-9 for edge in times):
            assert unit == (wanted[0] if wanted else PAUSE)


def test_the_loss_is_that_of_the_outputs_that_are_known() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(2, 6, PAUSE + 1, generator=generator).log_softmax(2)
    counts = torch.tensor([6, 4])
    timed = [
        [TimedUnit(1, 0.1, 0.3), TimedUnit(UNKNOWN, 0.3, 0.5)],
        [TimedUnit(2, 0.0, 0.2)],
    ]
    wanted = [[PAUSE, 1, 1, None, None, PAUSE], [2, 2, PAUSE, PAUSE]]
    known = [
        -float(log_probs[row, place, unit])
        for row, units in enumerate(wanted)
        for place, unit in enumerate(units)
        if unit is not None
    ]
    loss = frame_loss(log_probs, counts, timed, 10.0)
    assert float(loss) == pytest.approx(sum(known) / len(known), rel=1e-5)


def test_where_nothing_is_known_there_is_nothing_to_learn() -> None:
    log_probs = torch.zeros(1, 4, PAUSE + 1, requires_grad=True)
    timed = [[TimedUnit(UNKNOWN, 0.0, 1.0)]]
    loss = frame_loss(log_probs.log_softmax(2), torch.tensor([4]), timed, 10.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert log_probs.grad is not None
    assert not math.isnan(float(log_probs.grad.sum()))
    assert not log_probs.grad.any()
