"""Span masks: where they lie, how much they cover."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.pretrain.masking import span_mask
from wav2vec_u.runtime.seeds import torch_generator


def valid_of(lengths: list[int], width: int | None = None) -> torch.Tensor:
    return torch.arange(width or max(lengths))[None] < torch.tensor(lengths)[:, None]


def runs(row: torch.Tensor) -> list[int]:
    """Lengths of the runs of masked steps, one step at a time."""
    found, length = [], 0
    for masked in [*row.tolist(), False]:
        if masked:
            length += 1
        elif length:
            found.append(length)
            length = 0
    return found


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    extra=st.integers(0, 7),
    probability=st.floats(0, 1),
    length=st.integers(1, 12),
    min_spans=st.integers(0, 4),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=100)
def test_spans_are_whole_and_inside(
    lengths: list[int], extra: int, probability: float, length: int, min_spans: int, seed: int
) -> None:
    valid = valid_of(lengths, max(lengths) + extra)
    mask = span_mask(valid, probability, length, torch_generator(seed), min_spans)
    assert mask.shape == valid.shape and mask.dtype == torch.bool
    assert not (mask & ~valid).any()
    for row, steps in zip(mask, lengths, strict=True):
        assert all(run >= length for run in runs(row))
        if steps < length:
            assert not row.any()
        else:
            # So many different starts cover at least so many steps.
            assert row.sum() >= (min(min_spans, steps - length + 1) + length - 1) * (min_spans > 0)


def test_same_seed_same_mask_and_another_seed_another() -> None:
    valid = valid_of([200, 150])
    masks = [span_mask(valid, 0.065, 10, torch_generator(seed)) for seed in (3, 3, 4)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize(("probability", "length"), [(0.065, 10), (0.08, 5), (0.2, 1)])
def test_share_masked_away_from_the_ends(probability: float, length: int) -> None:
    mask = span_mask(valid_of([500] * 400), probability, length, torch_generator(1), min_spans=0)
    inner = mask[:, length : 500 - length].float().mean()
    assert float(inner) == pytest.approx(1 - (1 - probability) ** length, abs=0.01)


def test_share_of_a_step_by_counting_the_starts_that_reach_it() -> None:
    steps, length, probability = 12, 4, 0.3
    mask = span_mask(valid_of([steps] * 40_000), probability, length, torch_generator(2), 0)
    for step in range(steps):
        reach = sum(start <= step < start + length for start in range(steps - length + 1))
        expected = 1 - (1 - probability) ** reach
        assert float(mask[:, step].float().mean()) == pytest.approx(expected, abs=0.015)


def test_forced_spans_start_anywhere_alike() -> None:
    mask = span_mask(valid_of([8] * 30_000), 0.0, 3, torch_generator(5), min_spans=1)
    assert (mask.sum(dim=1) == 3).all()
    starts = mask.int().argmax(dim=1).bincount(minlength=6) / len(mask)
    torch.testing.assert_close(starts, torch.full((6,), 1 / 6), atol=0.015, rtol=0)


def test_as_many_different_spans_as_asked_for() -> None:
    mask = span_mask(valid_of([50] * 500), 0.0, 1, torch_generator(6), min_spans=3)
    assert (mask.sum(dim=1) == 3).all()


def test_short_utterances_beside_long_ones() -> None:
    mask = span_mask(valid_of([3, 4, 40]), 0.0, 4, torch_generator(0), min_spans=2)
    assert mask.sum(dim=1).tolist()[:2] == [0, 4]  # nothing fits; one span fits
    assert mask[2].sum() > 4


def test_a_batch_of_nothing_but_short_utterances() -> None:
    assert not span_mask(valid_of([3, 2]), 0.5, 4, torch_generator(0)).any()
