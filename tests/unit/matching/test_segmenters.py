from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.matching.segmenters import average_groups, join, post_segment, pre_segment

batches = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=5)


def logits_of(labels: list[list[int]], extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits whose best symbols are the labels; junk in the padding."""
    steps = max(map(len, labels)) + extra
    logits = torch.rand(len(labels), steps, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(len(labels), steps, dtype=torch.bool)
    for row, symbols in enumerate(labels):
        logits[row, torch.arange(len(symbols)), torch.tensor(symbols)] += 1
        mask[row, : len(symbols)] = True
    return logits, mask


def runs_of(symbols: list[int]) -> list[list[int]]:
    """Positions of every run of equal symbols."""
    runs = itertools.groupby(range(len(symbols)), key=lambda t: symbols[t])
    return [list(positions) for _, positions in runs]


@settings(max_examples=60, deadline=None)
@given(labels=batches, extra=st.integers(0, 3))
def test_join_in_evaluation_is_the_mean_of_every_run(labels: list[list[int]], extra: int) -> None:
    logits, mask = logits_of(labels, extra)
    joined, new_mask = join(logits, mask, None)
    for row, symbols in enumerate(labels):
        expected = torch.stack([logits[row, run].mean(0) for run in runs_of(symbols)])
        assert int(new_mask[row].sum()) == len(expected)
        assert bool(new_mask[row, : len(expected)].all())
        torch.testing.assert_close(joined[row, : len(expected)], expected)
        assert not joined[row, len(expected) :].any()


@settings(max_examples=60, deadline=None)
@given(labels=batches, extra=st.integers(0, 3), seed=st.integers(0, 9))
def test_join_in_training_picks_one_step_of_every_run(
    labels: list[list[int]], extra: int, seed: int
) -> None:
    logits, mask = logits_of(labels, extra)
    joined, new_mask = join(logits, mask, torch.Generator().manual_seed(seed))
    for row, symbols in enumerate(labels):
        runs = runs_of(symbols)
        assert int(new_mask[row].sum()) == len(runs)
        for place, run in enumerate(runs):
            assert any(torch.equal(joined[row, place], logits[row, t]) for t in run)
        assert not joined[row, len(runs) :].any()


def test_join_in_training_picks_every_step_alike() -> None:
    logits, mask = logits_of([[1, 1, 1, 2]] * 3000)
    logits[:, :3, 0] = torch.tensor([0.1, 0.2, 0.3])
    joined, _ = join(logits, mask, torch.Generator().manual_seed(0))
    counts = [float((joined[:, 0, 0] == value).float().mean()) for value in (0.1, 0.2, 0.3)]
    assert counts == pytest.approx([1 / 3] * 3, abs=0.04)


def test_join_passes_gradients_to_the_picked_steps_alone() -> None:
    logits, mask = logits_of([[1, 1, 2], [3, 3, 3]])
    logits.requires_grad_()
    join(logits, mask, torch.Generator().manual_seed(0))[0].sum().backward()
    assert logits.grad is not None
    picked = (logits.grad != 0).all(-1)
    assert picked[0, :2].sum() == 1
    assert bool(picked[0, 2])
    assert picked[1].sum() == 1


def test_join_keeps_the_padded_length_of_the_reference() -> None:
    # Three runs and no padding; two runs and the padding, which counts as one more.
    logits, mask = logits_of([[0, 1, 2, 2], [0, 1]])
    assert join(logits, mask, None, reference=True)[0].shape[1] == 3
    logits, mask = logits_of([[0, 0, 0, 0], [0, 1]])
    assert join(logits, mask, None)[0].shape[1] == 2
    assert join(logits, mask, None, reference=True)[0].shape[1] == 3


def test_uniform_averages_groups_and_the_rest() -> None:
    vectors = torch.arange(6.0).view(1, 6, 1).repeat(2, 1, 1)
    mask = torch.tensor([[True] * 6, [True] * 5 + [False]])
    pooled, new_mask = average_groups(vectors, mask, 4)
    assert pooled[..., 0].tolist() == [[1.5, 4.5], [1.5, 4.0]]
    assert new_mask.tolist() == [[True, True], [True, True]]
    wider, wider_mask = average_groups(
        torch.nn.functional.pad(vectors, (0, 0, 0, 9), value=50.0),
        torch.nn.functional.pad(mask, (0, 9)),
        4,
    )
    assert torch.equal(wider[wider_mask], pooled[new_mask])


def test_random_keeps_a_share_of_every_utterance_in_order() -> None:
    vectors = torch.arange(1.0, 13.0).view(1, 12, 1).repeat(3, 1, 1)
    mask = torch.arange(12) < torch.tensor([12, 5, 1]).unsqueeze(1)
    seen = set()
    for seed in range(40):
        kept, new_mask = pre_segment(
            "random", vectors, mask, 0.25, torch.Generator().manual_seed(seed)
        )
        assert new_mask.sum(1).tolist() == [3, 2, 1]
        for row, limit in enumerate([12, 5, 1]):
            values = kept[row, new_mask[row], 0].tolist()
            assert values == sorted(set(values))
            assert max(values) <= limit
            if row == 0:
                seen.update(values)
    assert seen == set(range(1, 13))


def test_each_kind_does_what_it_is_called() -> None:
    logits, mask = logits_of([[1, 1, 2, 2, 3, 3, 3, 3]])
    rng = torch.Generator().manual_seed(0)
    before = {
        kind: pre_segment(kind, logits, mask, 0.25, rng)[0].shape[1]
        for kind in ("none", "random", "uniform", "uniform_join", "join")
    }
    assert before == {"none": 8, "random": 2, "uniform": 2, "uniform_join": 2, "join": 8}
    after = {
        kind: post_segment(kind, logits, mask, None)[0].shape[1]
        for kind in ("none", "random", "uniform", "uniform_join", "join")
    }
    assert after == {"none": 8, "random": 8, "uniform": 8, "uniform_join": 3, "join": 3}
