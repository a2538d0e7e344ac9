"""Every term of the GAN's objective against slow code that takes one utterance at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.discriminator import Discriminator
from wav2vec_u.matching.objective import (
    Generated,
    Real,
    discriminator_objective,
    diversity_penalty,
    generator_objective,
    gradient_penalty,
    perplexity,
    smoothness,
)

V = 5
SPEECH_LENGTHS = [7, 3, 9, 1]
TEXT_LENGTHS = [4, 8, 6, 5]


def make_discriminator(depth: int = 2) -> Discriminator:
    torch.manual_seed(3)
    network = Discriminator(V, dim=6, depth=depth, kernel=3).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)  # large biases, so that edges show
    return network


def make_batch(extra: int = 0, pad_symbol: int | None = None) -> tuple[Generated, Real]:
    """The same utterances, with `extra` more steps of padding."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.zeros(len(SPEECH_LENGTHS), max(SPEECH_LENGTHS) + extra, V).double()
    symbols = torch.zeros(len(TEXT_LENGTHS), max(TEXT_LENGTHS) + extra, V).double()
    if pad_symbol is not None:
        symbols[:, :, pad_symbol] = 1
    for row, length in enumerate(SPEECH_LENGTHS):
        logits[row, :length] = 2 * torch.randn(length, V, generator=generator).double()
    for row, length in enumerate(TEXT_LENGTHS):
        ids = torch.randint(V, (length,), generator=generator)
        symbols[row, :length] = torch.nn.functional.one_hot(ids, V).double()
    speech_mask = torch.arange(logits.shape[1]) < torch.tensor(SPEECH_LENGTHS).unsqueeze(1)
    text_mask = torch.arange(symbols.shape[1]) < torch.tensor(TEXT_LENGTHS).unsqueeze(1)
    return Generated(logits, speech_mask), Real(symbols, text_mask)


def slow_score(network: Discriminator, x: Tensor) -> Tensor:
    """Mean logit of one utterance (T, V): layer by layer, step by step, tap by tap."""
    layers = [(layer.weight, layer.bias) for layer in network.layers]
    h = list(x)
    for index, (weight, bias) in enumerate(layers):
        out = []
        for t in range(len(h)):
            total = bias
            for tap in range(network.kernel):
                source = t - (network.kernel - 1) + tap
                if source >= 0:
                    total = total + weight[:, :, tap] @ h[source]
            out.append(total)
        if 0 < index < len(layers) - 1:
            out = [torch.nn.functional.gelu(step) for step in out]
        h = out
    return torch.stack(h).mean()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_discriminator_fused_equals_layer_by_layer(depth: int) -> None:
    network = make_discriminator(depth)
    generated, _ = make_batch(extra=2)
    scores = network(generated.logits, generated.mask)
    expected = [
        slow_score(network, row[:length])
        for row, length in zip(generated.logits, SPEECH_LENGTHS, strict=True)
    ]
    torch.testing.assert_close(scores, torch.stack(expected))
    without_mask = network(generated.logits, None)
    torch.testing.assert_close(
        without_mask, torch.stack([slow_score(network, row) for row in generated.logits])
    )


def test_discriminator_gradients_of_both_fused_layers_are_right() -> None:
    network = make_discriminator()
    generated, _ = make_batch()
    network(generated.logits, generated.mask).sum().backward()
    fused = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    pairs = zip(generated.logits, SPEECH_LENGTHS, strict=True)
    torch.stack([slow_score(network, row[:length]) for row, length in pairs]).sum().backward()
    for found, parameter in zip(fused, network.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad)


def test_adversarial_terms_have_the_labels_of_the_reference() -> None:
    network = make_discriminator()
    generated, real = make_batch()
    fakes, reals = [], []
    for row in range(len(SPEECH_LENGTHS)):
        fake = generated.logits[row, : SPEECH_LENGTHS[row]].softmax(-1)
        fakes.append(slow_score(network, fake).item())
        reals.append(slow_score(network, real.symbols[row, : TEXT_LENGTHS[row]]).item())

    def sigmoid(logit: float) -> float:
        return 1 / (1 + math.exp(-logit))

    size = len(fakes)
    config = GanConfig()
    rng = torch.Generator().manual_seed(0)
    terms = discriminator_objective(network, generated, real, config, rng)
    assert terms["fake"].item() == pytest.approx(-sum(math.log(sigmoid(x)) for x in fakes) / size)
    assert terms["real"].item() == pytest.approx(
        -sum(math.log(1 - sigmoid(x)) for x in reals) / size
    )
    fooled = generator_objective(network, generated, config)["adversarial"]
    assert fooled.item() == pytest.approx(-sum(math.log(1 - sigmoid(x)) for x in fakes) / size)


@pytest.mark.parametrize("reference", [False, True])
def test_smoothness(reference: bool) -> None:
    generated, _ = make_batch(extra=2)
    total, pairs = 0.0, 0
    for row, length in zip(generated.logits, SPEECH_LENGTHS, strict=True):
        for t in range(length - 1):
            total += float(((row[t + 1] - row[t]) ** 2).mean())
            pairs += 1
    if reference:
        pairs = len(SPEECH_LENGTHS) * (max(SPEECH_LENGTHS) + 2 - 1)
    assert float(smoothness(generated, reference=reference)) == pytest.approx(total / pairs)


@pytest.mark.parametrize("reference", [False, True])
def test_perplexity_of_the_mean_distribution(reference: bool) -> None:
    generated, _ = make_batch(extra=2)
    mean, steps = [0.0] * V, 0
    for row, length in zip(generated.logits, SPEECH_LENGTHS, strict=True):
        for t in range(row.shape[0] if reference else length):
            weights = [math.exp(value) for value in row[t].tolist()]
            mean = [m + w / sum(weights) for m, w in zip(mean, weights, strict=True)]
            steps += 1
    entropy = -sum(m / steps * math.log(m / steps + 1e-7) for m in mean)
    found = perplexity(generated.logits.softmax(-1), generated.mask, reference=reference)
    assert float(found) == pytest.approx(math.exp(entropy))


def test_diversity_penalty_is_zero_for_even_use_and_largest_for_one_phone() -> None:
    even = torch.full((2, 4, V), 1 / V)
    mask = torch.ones(2, 4, dtype=torch.bool)
    assert float(diversity_penalty(perplexity(even, mask), V)) == pytest.approx(0, abs=1e-5)
    one = torch.zeros(2, 4, V)
    one[..., 2] = 1
    assert float(diversity_penalty(perplexity(one, mask), V)) == pytest.approx(1 - 1 / V)


def mixtures(generated: Generated, real: Real, alpha: Tensor, reference: bool) -> list[Tensor]:
    """The interpolated pair of every utterance, cut to its own length, or to the batch's."""
    fake = generated.logits.softmax(-1)
    found = []
    for row in range(len(SPEECH_LENGTHS)):
        steps = min(SPEECH_LENGTHS[row], TEXT_LENGTHS[row])
        if reference:
            steps = min(fake.shape[1], real.symbols.shape[1])
        a = alpha[row, 0, 0]
        found.append(a * real.symbols[row, :steps] + (1 - a) * fake[row, :steps])
    return found


def finite_difference_slope(network: Discriminator, x: Tensor, step: float = 1e-5) -> Tensor:
    slope = torch.zeros_like(x)
    for t in range(x.shape[0]):
        for v in range(x.shape[1]):
            nudge = torch.zeros_like(x)
            nudge[t, v] = step
            rise = slow_score(network, x + nudge) - slow_score(network, x - nudge)
            slope[t, v] = rise / (2 * step)
    return slope


@pytest.mark.parametrize("reference", [False, True])
def test_gradient_penalty_equals_finite_differences_utterance_by_utterance(
    reference: bool,
) -> None:
    network = make_discriminator()
    generated, real = make_batch(pad_symbol=2 if reference else None)
    alpha = torch.tensor([0.1, 0.9, 0.5, 0.3]).double().view(-1, 1, 1)
    with torch.no_grad():
        penalties = []
        for x in mixtures(generated, real, alpha, reference):
            slope = finite_difference_slope(network, x)
            # The reference: one norm over time for every symbol, summed.
            norms = slope.norm(dim=0) if reference else slope.norm().unsqueeze(0)
            penalties.append(((norms - 1) ** 2).sum())
    found = gradient_penalty(
        network,
        generated.logits.softmax(-1),
        generated.mask,
        real,
        alpha,
        reference=reference,
    )
    torch.testing.assert_close(found, torch.stack(penalties).mean(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("reference", [False, True])
def test_gradient_of_the_gradient_penalty(reference: bool) -> None:
    network = make_discriminator()
    generated, real = make_batch()
    alpha = torch.tensor([0.1, 0.9, 0.5, 0.3]).double().view(-1, 1, 1)

    def penalty() -> Tensor:
        return gradient_penalty(
            network,
            generated.logits.softmax(-1),
            generated.mask,
            real,
            alpha,
            reference=reference,
        )

    penalty().backward()
    for parameter in network.parameters():
        index = (0,) * parameter.dim()
        with torch.no_grad():
            parameter[index] += 1e-5
        above = penalty().detach()
        with torch.no_grad():
            parameter[index] -= 2e-5
        below = penalty().detach()
        with torch.no_grad():
            parameter[index] += 1e-5
        numeric = float(above - below) / 2e-5
        # The last bias moves every score alike and no slope.
        analytic = 0.0 if parameter.grad is None else float(parameter.grad[index])
        assert analytic == pytest.approx(numeric, rel=1e-4, abs=1e-7)


def all_terms(extra: int, config: GanConfig) -> dict[str, float]:
    network = make_discriminator()
    generated, real = make_batch(extra, pad_symbol=2 if config.reference else None)
    rng = torch.Generator().manual_seed(5)
    terms = generator_objective(network, generated, config)
    terms |= discriminator_objective(network, generated, real, config, rng)
    return {name: value.item() for name, value in terms.items()}


@pytest.mark.parametrize("extra", [1, 2, 7])
def test_padding_changes_nothing(extra: int) -> None:
    plain, padded = all_terms(0, GanConfig()), all_terms(extra, GanConfig())
    assert padded == pytest.approx(plain, rel=1e-9)


def test_padding_changes_the_reference_as_documented() -> None:
    config = GanConfig(reference=True)
    plain, padded = all_terms(0, config), all_terms(7, config)
    for name in ("adversarial", "fake", "real"):  # the discriminator's mask is right there too
        assert padded[name] == pytest.approx(plain[name])
    assert padded["diversity"] < plain["diversity"]  # uniform padding looks like variety
    assert padded["smoothness"] < plain["smoothness"]  # divided by the padded length
    assert padded["gradient_penalty"] != pytest.approx(plain["gradient_penalty"])


def test_weights_are_those_of_the_settings() -> None:
    ones = GanConfig(gradient_penalty=1, smoothness=1, diversity=1)
    weighted = GanConfig(gradient_penalty=2, smoothness=3, diversity=5)
    plain, scaled = all_terms(0, ones), all_terms(0, weighted)
    assert scaled["gradient_penalty"] == pytest.approx(2 * plain["gradient_penalty"])
    assert scaled["smoothness"] == pytest.approx(3 * plain["smoothness"])
    assert scaled["diversity"] == pytest.approx(5 * plain["diversity"])
    assert "gradient_penalty" not in all_terms(0, GanConfig(gradient_penalty=0))
