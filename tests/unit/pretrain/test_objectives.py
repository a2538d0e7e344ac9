"""The objectives learn what is planted, and log what is so."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from wav2vec_u.config import ContrastiveConfig, MaskedPredictionConfig
from wav2vec_u.encoder.network import NetworkOutput
from wav2vec_u.pretrain.objectives import (
    ContrastiveObjective,
    MaskedPredictionObjective,
    Objective,
    ProductQuantizer,
)
from wav2vec_u.runtime.seeds import torch_generator

B, T, C, D, G, K = 4, 40, 12, 10, 2, 6
CONTRASTIVE = ContrastiveConfig(
    codes=8, entry_dim=4, projection_dim=16, distractors=10, feature_dropout=0.0
)
PREDICTION = MaskedPredictionConfig(projection_dim=16)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make_output(seed: int = 0, front: torch.Tensor | None = None) -> NetworkOutput:
    generator = torch_generator(seed)
    lengths = torch.tensor([T, T - 3, T - 9, T])
    return NetworkOutput(
        front=front,
        features=torch.randn(B, T, C, generator=generator),
        context=torch.randn(B, T, D, generator=generator),
        valid=torch.arange(T)[None] < lengths[:, None],
        blocks=[],
    )


def make_mask(output: NetworkOutput) -> torch.Tensor:
    return (torch.rand(B, T, generator=torch_generator(9)) < 0.5) & output.valid


def make_targets(seed: int = 5) -> torch.Tensor:
    return torch.randint(K, (B, T, G), generator=torch_generator(seed))


def contrastive(config: ContrastiveConfig = CONTRASTIVE) -> ContrastiveObjective:
    return ContrastiveObjective(config, C, D)


def prediction(config: MaskedPredictionConfig = PREDICTION) -> MaskedPredictionObjective:
    return MaskedPredictionObjective(config, D, G, K)


def both() -> list[Objective]:
    return [contrastive(), prediction()]


# Both


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("bf16", [False, True])
def test_loss_gradients_and_metrics_are_finite(which: int, bf16: bool) -> None:
    front = torch.randn(B, T, C, requires_grad=True)
    objective, output = both()[which], make_output(front=front)
    output.context.requires_grad_()
    output.features.requires_grad_()
    mask = make_mask(output)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        result = objective(output, mask, make_targets(), 0.3, torch_generator(1))
    result.loss.backward()
    assert result.loss.dtype == torch.float32
    wanted = [*objective.parameters(), output.context, front]
    for tensor in [*wanted, output.features] if which == 0 else wanted:
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all() and tensor.grad.any()
    for value in result.metrics.values():
        assert value.ndim == 0 and torch.isfinite(value) and not value.requires_grad


@pytest.mark.parametrize("which", [0, 1])
def test_the_generator_alone_decides(which: int) -> None:
    objective, output = both()[which], make_output()
    mask = make_mask(output)

    def loss(seed: int) -> float:
        torch.rand(1)  # the global generator moves on, and must not matter
        result = objective(output, mask, make_targets(), 0.5, torch_generator(seed))
        return float(result.loss.detach())

    assert loss(1) == loss(1)
    assert (loss(1) != loss(2)) == (which == 0)  # the prediction draws nothing


@pytest.mark.parametrize("which", [0, 1])
def test_the_penalty_is_added_where_the_front_end_learns(which: int) -> None:
    objective, output = both()[which], make_output()
    mask = make_mask(output)
    learned = make_output(front=torch.full((B, T, C), 0.5))
    without = objective(output, mask, make_targets(), 0.0, torch_generator(1))
    with_it = objective(learned, mask, make_targets(), 0.0, torch_generator(1))
    assert "feature_penalty" not in without.metrics
    assert float(with_it.metrics["feature_penalty"]) == pytest.approx(0.25)
    assert (with_it.loss - without.loss).item() == pytest.approx(2.5, abs=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_a_batch_without_masked_steps_costs_nothing(which: int) -> None:
    objective, output = both()[which], make_output()
    output.context.requires_grad_()
    nothing = torch.zeros(B, T, dtype=torch.bool)
    result = objective(output, nothing, make_targets(), 0.0, torch_generator(1))
    result.loss.backward()
    assert result.count == 0
    assert torch.isfinite(result.loss)
    assert all(
        torch.isfinite(parameter.grad).all()
        for parameter in objective.parameters()
        if parameter.grad is not None
    )


@pytest.mark.parametrize("which", [0, 1])
def test_padding_does_not_matter(which: int) -> None:
    objective, output = both()[which].eval(), make_output()
    mask = make_mask(output)
    first = objective(output, mask, make_targets(), 0.0, torch_generator(1))
    output.context[~output.valid] = 50.0
    output.features[~output.valid] = -50.0
    second = objective(output, mask, make_targets(), 0.0, torch_generator(1))
    torch.testing.assert_close(first.loss, second.loss)


# wav2vec 2.0


def test_temperature_falls_by_equal_factors() -> None:
    objective = contrastive()
    temperatures = [objective.gumbel_temperature(p) for p in (0, 0.25, 0.5, 0.75, 1)]
    assert temperatures[0] == 2.0
    assert temperatures[-1] == pytest.approx(0.5)
    ratios = [b / a for a, b in pairwise(temperatures)]
    assert ratios == pytest.approx([ratios[0]] * 4)


def test_quantizer_takes_the_likeliest_entry_of_each_codebook() -> None:
    quantizer = ProductQuantizer(C, G, 8, 6).eval()
    vectors = torch.randn(20, C)
    quantized, probabilities, choices = quantizer(vectors, 1.0, torch_generator(0))
    entries = quantizer.codevectors.view(G, 8, 3)
    scores = quantizer.weight_proj(vectors).view(20, G, 8)
    for n in range(20):
        for g in range(G):
            best = int(scores[n, g].argmax())
            assert torch.equal(quantized[n, 3 * g : 3 * g + 3], entries[g, best])
            assert int(choices[n, g].argmax()) == best
    torch.testing.assert_close(probabilities, scores.softmax(dim=2))


def test_choices_in_training_follow_the_softmax() -> None:
    """The Gumbel trick: the argmax with noise is a draw from the softmax, at any temperature."""
    quantizer = ProductQuantizer(C, 1, 5, 4)
    torch.nn.init.normal_(quantizer.weight_proj.weight, std=0.3)
    vectors = torch.randn(1, C).repeat(40_000, 1)
    _, probabilities, choices = quantizer(vectors, 0.7, torch_generator(0))
    assert torch.equal(choices.round(), choices.round().clamp(0, 1))
    share = choices.detach().mean(dim=0)
    torch.testing.assert_close(share, probabilities[0].detach(), atol=0.012, rtol=0)


def test_equal_codes_are_equal_vectors_in_training() -> None:
    """To the last bit, as the contrastive loss must know them."""
    quantizer = ProductQuantizer(C, G, 3, 6)
    quantized, _, choices = quantizer(torch.randn(200, C), 0.7, torch_generator(0))
    chosen = choices.argmax(dim=2)  # (N, G)
    assert torch.equal(choices.detach().sum(dim=2), torch.ones(200, G))
    assert len(quantized.detach().unique(dim=0)) == len(chosen.unique(dim=0)) <= 9


def test_lower_temperature_follows_the_softmax_more_closely() -> None:
    """The straight-through gradient is that of the softmax at the temperature of the moment."""
    quantizer = ProductQuantizer(C, 1, 5, 4)
    vectors = torch.randn(1, C)
    gradients = []
    for temperature in (2.0, 0.05):
        quantizer.zero_grad()
        quantizer(vectors, temperature, torch_generator(0))[0].sum().backward()
        assert quantizer.weight_proj.bias.grad is not None
        gradients.append(float(quantizer.weight_proj.bias.grad.abs().max()))
    assert gradients[0] > 0
    assert gradients[0] != pytest.approx(gradients[1], rel=0.1)


def test_planted_codes_are_told_apart() -> None:
    """Features are one of eight patterns, and the context says which: a few updates suffice."""
    patterns = torch.randn(8, C)
    which = torch.randint(8, (B, T), generator=torch_generator(2))
    output = NetworkOutput(
        front=None,
        features=patterns[which],
        context=torch.nn.functional.one_hot(which, D).float(),
        valid=torch.ones(B, T, dtype=torch.bool),
        blocks=[],
    )
    mask = make_mask(output)
    objective = contrastive()
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    generator = torch_generator(3)
    for update in range(150):
        optimizer.zero_grad()
        objective(output, mask, None, update / 150, generator).loss.backward()
        optimizer.step()
    metrics = objective.eval()(output, mask, None, 1.0, generator).metrics
    assert float(metrics["accuracy"]) > 0.95
    assert float(metrics["contrastive"]) < 0.3
    assert float(metrics["code_perplexity"]) > 5  # of 16, two being a collapse
    shuffled = NetworkOutput(
        None, output.features, output.context.roll(7, dims=1), output.valid, []
    )
    assert float(objective(shuffled, mask, None, 1.0, generator).metrics["accuracy"]) < 0.5


@pytest.mark.parametrize(("form", "lowest"), [("perplexity", 0.8), ("entropy", -0.01)])
def test_collapsed_codes_show(form: str, lowest: float) -> None:
    config = CONTRASTIVE.model_copy(update={"diversity_form": form})
    objective, output = contrastive(config), make_output()
    with torch.no_grad():
        objective.quantizer.weight_proj.weight.zero_()
        objective.quantizer.weight_proj.bias.copy_(torch.eye(8)[0].repeat(G) * 30)
    metrics = objective(output, make_mask(output), None, 0.0, torch_generator(0)).metrics
    assert float(metrics["diversity"]) > lowest  # the highest it gets is 1 - 1/8, or 0
    assert float(metrics["code_perplexity"]) == pytest.approx(G, abs=1e-3)
    assert float(metrics["accuracy"]) == 0.0
    healthy = contrastive(config)(output, make_mask(output), None, 0.0, torch_generator(0)).metrics
    assert float(healthy["diversity"]) < lowest - 0.1
    assert float(healthy["code_perplexity"]) > 2 * G


def test_diversity_is_of_the_softmax_without_noise_over_masked_steps() -> None:
    objective, output = contrastive(), make_output()
    mask = make_mask(output)
    metrics = objective(output, mask, None, 0.0, torch_generator(0)).metrics
    scores = objective.quantizer.weight_proj(output.features[mask]).view(-1, G, 8)
    mean = scores.softmax(dim=2).mean(dim=0).detach()
    perplexity = sum(float(torch.distributions.Categorical(row).perplexity()) for row in mean)
    assert float(metrics["probability_perplexity"]) == pytest.approx(perplexity, rel=1e-5)
    assert float(metrics["diversity"]) == pytest.approx((G * 8 - perplexity) / (G * 8), rel=1e-4)


def test_diversity_weighs_as_configured() -> None:
    output = make_output()
    mask = make_mask(output)
    objective = contrastive()
    result = objective(output, mask, None, 0.0, torch_generator(0))
    parts = result.metrics
    expected = parts["contrastive"] + CONTRASTIVE.diversity_weight * parts["diversity"]
    torch.testing.assert_close(result.loss.detach(), expected)
    assert result.count == int(mask.sum())


# HuBERT


def test_targets_that_the_context_tells_are_learned() -> None:
    targets = make_targets()
    told = torch.cat([torch.nn.functional.one_hot(targets[:, :, g], K) for g in range(G)], dim=2)
    output = make_output()
    output = NetworkOutput(None, output.features, told.float(), output.valid, [])
    mask = make_mask(output)
    objective = MaskedPredictionObjective(PREDICTION, G * K, G, K)
    before = objective(output, mask, targets, 0.0, torch_generator(0)).metrics
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        objective(output, mask, targets, 0.0, torch_generator(0)).loss.backward()
        optimizer.step()
    after = objective(output, mask, targets, 1.0, torch_generator(0)).metrics
    assert float(before["accuracy"]) < 0.5
    assert float(after["accuracy"]) == 1.0
    assert float(after["masked"]) < 0.1
    assert float(after["accuracy_unmasked"]) > 0.95  # what tells is the same there


def test_logits_are_cosines_by_the_temperature() -> None:
    objective = prediction()
    context = torch.randn(1, 3, D)
    logits = objective.logits(context).detach()
    projected = objective.project_context(context).detach().view(1, 3, G, 16)
    for t in range(3):
        for g in range(G):
            for k in range(K):
                cosine = torch.cosine_similarity(
                    projected[0, t, g], objective.embeddings[g, k].detach(), dim=0
                )
                assert float(logits[0, t, g, k]) == pytest.approx(float(cosine) / 0.1, abs=1e-4)


def test_targets_are_needed() -> None:
    output = make_output()
    with pytest.raises(ValueError, match="targets"):
        prediction()(output, make_mask(output), None, 0.0, torch_generator(0))
