"""The losses against code that takes one step at a time, and against planted answers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from wav2vec_u.pretrain.losses import (
    code_perplexity,
    contrastive_loss,
    diversity_loss,
    feature_penalty,
    masked_prediction_loss,
    perplexity_diversity_loss,
    sample_distractors,
)
from wav2vec_u.runtime.seeds import torch_generator

KAPPA = 0.1
masks = st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=4).map(
    torch.tensor
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(seed))


def slow_contrastive(
    context: torch.Tensor, quantized: torch.Tensor, mask: torch.Tensor, distractors: torch.Tensor
) -> tuple[torch.Tensor, int]:
    """Equation 3, one step and one distractor at a time."""
    total, right = torch.zeros(()), 0
    for b, t in mask.nonzero().tolist():
        target = quantized[b, t]
        others = [quantized[b, d] for d in distractors[b, t].tolist()]
        others = [other for other in others if not torch.equal(other, target)]
        scores = [F.cosine_similarity(context[b, t], q, dim=0) / KAPPA for q in [target, *others]]
        total = total - scores[0] + torch.stack(scores).exp().sum().log()
        right += bool(others) and all(scores[0] > other for other in scores[1:])
    return total, right


# Distractors


@given(mask=masks, count=st.integers(1, 6), seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=100)
def test_distractors_are_other_masked_steps_of_the_utterance(
    mask: torch.Tensor, count: int, seed: int
) -> None:
    drawn = sample_distractors(mask, count, torch_generator(seed))
    assert drawn.shape == (*mask.shape, count) and drawn.dtype == torch.int64
    for b, row in enumerate(mask):
        for t in range(len(row)):
            if row[t] and row.sum() > 1:
                assert all(row[d] and d != t for d in drawn[b, t].tolist())
            else:
                assert drawn[b, t].tolist() == [t] * count


def test_distractors_are_uniform() -> None:
    mask = torch.tensor([[False, True, True, False, True, True, False]])
    drawn = sample_distractors(mask, 60_000, torch_generator(1))
    share = drawn[0, 2].bincount(minlength=7) / 60_000
    expected = torch.tensor([0, 1, 0, 0, 1, 1, 0]) / 3
    torch.testing.assert_close(share, expected, atol=0.01, rtol=0)


def test_distractors_depend_on_the_seed_alone() -> None:
    mask = torch.ones(2, 30, dtype=torch.bool)
    first, again, other = (sample_distractors(mask, 5, torch_generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# Equation 3


@given(mask=masks, few=st.booleans(), seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_contrastive_loss_equals_the_slow_one(mask: torch.Tensor, few: bool, seed: int) -> None:
    context = normal(*mask.shape, 6, seed=seed)
    quantized = normal(*mask.shape, 6, seed=seed + 1)
    if few:  # two different vectors: many distractors equal the target
        quantized = quantized[:, :2].repeat(1, 5, 1)[:, : mask.shape[1]]
    distractors = sample_distractors(mask, 4, torch_generator(seed))
    result = contrastive_loss(context, quantized, mask, distractors, KAPPA)
    total, right = slow_contrastive(context, quantized, mask, distractors)
    torch.testing.assert_close(result.total, total, atol=1e-4, rtol=1e-5)
    assert int(result.right) == right
    assert result.count == int(mask.sum())


def test_context_equal_to_the_target_is_right_everywhere() -> None:
    quantized = normal(3, 40, 64)
    mask = torch.ones(3, 40, dtype=torch.bool)
    distractors = sample_distractors(mask, 20, torch_generator(0))
    result = contrastive_loss(3 * quantized, quantized, mask, distractors, KAPPA)
    assert int(result.right) == result.count == 120
    assert float(result.total) / result.count < 0.05
    wrong = contrastive_loss(-quantized, quantized, mask, distractors, KAPPA)
    assert int(wrong.right) == 0
    assert float(wrong.total) / wrong.count > 10


def test_context_that_knows_nothing_is_at_chance() -> None:
    quantized, context = normal(8, 200, 256), normal(8, 200, 256, seed=1)
    mask = torch.ones(8, 200, dtype=torch.bool)
    distractors = sample_distractors(mask, 9, torch_generator(0))
    result = contrastive_loss(context, quantized, mask, distractors, temperature=10.0)
    assert float(result.total) / result.count == pytest.approx(math.log(10), abs=0.01)
    assert int(result.right) / result.count == pytest.approx(0.1, abs=0.03)


def test_collapsed_codes_are_not_right() -> None:
    quantized = torch.ones(1, 10, 4)
    mask = torch.ones(1, 10, dtype=torch.bool)
    context = normal(1, 10, 4).requires_grad_()
    distractors = sample_distractors(mask, 5, torch_generator(0))
    result = contrastive_loss(context, quantized, mask, distractors, KAPPA)
    result.total.backward()
    assert (result.total.item(), int(result.right)) == (0.0, 0)
    assert context.grad is not None and not context.grad.any()


def test_steps_that_are_not_masked_do_not_matter() -> None:
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[:, 3:8] = True
    distractors = sample_distractors(mask, 6, torch_generator(0))
    context, quantized = normal(2, 12, 5), normal(2, 12, 5, seed=1)
    elsewhere = torch.where(mask[:, :, None], 0.0, 100.0)
    first = contrastive_loss(context, quantized, mask, distractors, KAPPA)
    second = contrastive_loss(context + elsewhere, quantized + elsewhere, mask, distractors, KAPPA)
    torch.testing.assert_close(first.total, second.total)


@pytest.mark.parametrize("n_masked", [0, 1])
def test_nothing_to_compare_with(n_masked: int) -> None:
    mask = torch.zeros(1, 5, dtype=torch.bool)
    mask[0, :n_masked] = True
    context = normal(1, 5, 4).requires_grad_()
    distractors = sample_distractors(mask, 3, torch_generator(0))
    result = contrastive_loss(context, normal(1, 5, 4, seed=1), mask, distractors, KAPPA)
    result.total.backward()
    assert (result.total.item(), int(result.right), result.count) == (0.0, 0, n_masked)
    assert context.grad is not None and torch.isfinite(context.grad).all()


def test_nan_comes_through() -> None:
    mask = torch.ones(1, 6, dtype=torch.bool)
    quantized = normal(1, 6, 4)
    quantized[0, 2] = torch.nan
    distractors = sample_distractors(mask, 8, torch_generator(0))
    result = contrastive_loss(normal(1, 6, 4, seed=1), quantized, mask, distractors, KAPPA)
    assert torch.isnan(result.total)


def test_single_precision_under_autocast() -> None:
    mask = torch.ones(1, 20, dtype=torch.bool)
    context, quantized = normal(1, 20, 32), normal(1, 20, 32, seed=1)
    distractors = sample_distractors(mask, 8, torch_generator(0))
    plain = contrastive_loss(context, quantized, mask, distractors, KAPPA)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = contrastive_loss(context, quantized, mask, distractors, KAPPA)
    assert torch.equal(plain.total, cast.total)


# Equation 4


def test_diversity_by_hand() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]])
    entropy = 1.5 * math.log(2)
    assert float(diversity_loss(probabilities)) == pytest.approx(-entropy / 8)
    assert code_perplexity(probabilities).tolist() == pytest.approx([2**1.5, 1.0])
    expected = (8 - 2**1.5 - 1) / 8
    assert float(perplexity_diversity_loss(probabilities)) == pytest.approx(expected)


def test_range_of_both_forms() -> None:
    even, collapsed = torch.full((2, 5), 0.2), torch.eye(5)[:2]
    assert float(diversity_loss(even)) == pytest.approx(-math.log(5) / 5)
    assert float(diversity_loss(collapsed)) == pytest.approx(0.0)
    assert float(perplexity_diversity_loss(even)) == pytest.approx(0.0, abs=1e-6)
    assert float(perplexity_diversity_loss(collapsed)) == pytest.approx(1 - 1 / 5)


@pytest.mark.parametrize("loss_of", [diversity_loss, perplexity_diversity_loss])
def test_minimising_either_form_makes_the_codes_even(loss_of: object) -> None:
    assert callable(loss_of)
    logits = (2 * normal(2, 6)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss_of(logits.softmax(dim=1)).backward()
        optimizer.step()
    torch.testing.assert_close(logits.softmax(dim=1), torch.full((2, 6), 1 / 6), atol=1e-2, rtol=0)


def test_unused_codes_have_a_finite_gradient() -> None:
    probabilities = torch.eye(4)[:2].requires_grad_()
    (diversity_loss(probabilities) + perplexity_diversity_loss(probabilities)).backward()
    assert probabilities.grad is not None and torch.isfinite(probabilities.grad).all()


# The feature penalty


def test_feature_penalty_leaves_padding_out() -> None:
    features = torch.tensor([[[1.0, 3.0], [5.0, 5.0]], [[2.0, 0.0], [torch.nan, 1.0]]])
    valid = torch.tensor([[True, True], [True, False]])
    assert float(feature_penalty(features, valid)) == pytest.approx((5 + 25 + 2) / 3)
    assert float(feature_penalty(features, torch.zeros_like(valid))) == 0.0


# HuBERT


def prediction_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch_generator(3)
    logits = 3 * torch.randn(2, 7, 3, 5, generator=generator)
    targets = torch.randint(-1, 5, (2, 7, 3), generator=generator)
    valid = torch.arange(7)[None] < torch.tensor([7, 5])[:, None]
    mask = (torch.rand(2, 7, generator=generator) < 0.5) & valid
    return logits, targets, mask, valid


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_masked_prediction_equals_the_slow_one(weight: float) -> None:
    logits, targets, mask, valid = prediction_batch()
    sums = {True: 0.0, False: 0.0}
    right, count = {True: 0, False: 0}, {True: 0, False: 0}
    for b, t in valid.nonzero().tolist():
        for g, wanted in enumerate(targets[b, t].tolist()):
            if wanted >= 0:
                row, masked = logits[b, t, g], bool(mask[b, t])
                sums[masked] -= float(row[wanted] - row.exp().sum().log())
                right[masked] += int(row.argmax()) == wanted
                count[masked] += 1
    result = masked_prediction_loss(logits, targets, mask, valid, weight)
    assert (result.count, result.count_unmasked) == (count[True], count[False])
    assert (int(result.right), int(result.right_unmasked)) == (right[True], right[False])
    assert float(result.masked) == pytest.approx(sums[True] / count[True], rel=1e-5)
    assert float(result.unmasked) == pytest.approx(sums[False] / count[False], rel=1e-5)
    expected = (sums[True] + weight * sums[False]) / count[True]
    assert float(result.loss) == pytest.approx(expected, rel=1e-5)


def test_padding_and_steps_without_weight_get_no_gradient() -> None:
    logits, targets, mask, valid = prediction_batch()
    logits.requires_grad_()
    masked_prediction_loss(logits, targets, mask, valid, 0.0).loss.backward()
    assert logits.grad is not None
    assert not logits.grad[~mask].any()
    with_target = targets[mask] >= 0
    assert logits.grad[mask][with_target].abs().sum(dim=-1).min() > 0
    assert not logits.grad[mask][~with_target].any()


def test_no_targets_at_all() -> None:
    logits, targets, mask, valid = prediction_batch()
    result = masked_prediction_loss(logits, torch.full_like(targets, -1), mask, valid, 1.0)
    assert (float(result.loss), int(result.right), result.count) == (0.0, 0, 0)
