"""Every term of the GAN's objective against slow code that takes one utterance at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.gan import objective, reference
from wav2vec_u.matching.gan.auxiliary import NO_CODE, code_loss
from wav2vec_u.matching.gan.critics import Critics, Text
from wav2vec_u.matching.gan.discriminator import Discriminator
from wav2vec_u.matching.gan.hyperparameters import Choice, choose, stack
from wav2vec_u.matching.gan.layout import Layout
from wav2vec_u.matching.gan.objective import Generated, Objective, PaperObjective
from wav2vec_u.matching.gan.positions import PLACES, position_distance, position_tables
from wav2vec_u.matching.gan.reference import Padded
from wav2vec_u.matching.gan.relativistic import RelativisticObjective
from wav2vec_u.matching.gan.skipgrams import skipgram_distance, skipgram_tables
from wav2vec_u.matching.gan.text_statistics import TextStatistics
from wav2vec_u.testing.planted import PlantedText

V = 5
PAD = 2
SPEECH_LENGTHS = [[7, 3, 9, 1], [2, 8, 1, 4]]  # of two members
TEXT_LENGTHS = [4, 8, 6, 5]
ALPHA = torch.tensor([0.1, 0.9, 0.5, 0.3]).double()
CPU = torch.device("cpu")
NOTHING = TextStatistics()


def make_discriminator(depth: int = 2, seed: int = 3) -> Discriminator:
    torch.manual_seed(seed)
    network = Discriminator(V, dim=6, depth=depth, kernel=3).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)  # large biases, so that edges show
    return network


def make_members(depth: int = 2) -> tuple[list[Discriminator], Critics]:
    networks = [make_discriminator(depth, seed) for seed in (3, 4)]
    critics = Critics.stack(networks)
    for parameter in critics.parameters():
        parameter.requires_grad_()
    return networks, critics


def speech(member: int) -> list[Tensor]:
    """Logits (T, V) of every utterance."""
    generator = torch.Generator().manual_seed(member)
    lengths = SPEECH_LENGTHS[member]
    return [2 * torch.randn(length, V, generator=generator).double() for length in lengths]


def sentences() -> list[Tensor]:
    """Phone ids (L,) of every sentence."""
    generator = torch.Generator().manual_seed(9)
    return [torch.randint(V, (length,), generator=generator) for length in TEXT_LENGTHS]


def one_hot(ids: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(ids, V).double()


def generated() -> Generated:
    """Both members, one row each; the shorter row has junk behind it."""
    layouts = [Layout.of(torch.tensor(lengths)) for lengths in SPEECH_LENGTHS]
    width = max(sum(lengths) for lengths in SPEECH_LENGTHS)
    logits = torch.zeros(2, width, V).double()
    utterance, position = torch.zeros(2, 2, width, dtype=torch.long)
    valid = torch.zeros(2, width, dtype=torch.bool)
    for member, layout in enumerate(layouts):
        size = layout.utterance.shape[1]
        logits[member, :size] = torch.cat(speech(member))
        utterance[member, :size] = layout.utterance[0]
        position[member, :size] = layout.position[0]
        position[member, size:] = torch.arange(width - size) + layout.position[0, -1] + 1
        utterance[member, size:] = len(SPEECH_LENGTHS[member]) - 1
        valid[member, :size] = True
    lengths = torch.tensor(SPEECH_LENGTHS)
    return Generated(logits, Layout(utterance, position, valid, lengths))


def text() -> Text:
    ids = torch.nn.utils.rnn.pad_sequence(sentences(), batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor(TEXT_LENGTHS).unsqueeze(1)
    return Text.of(ids, mask, kernel=3, n_symbols=V)


def padded(extra: int = 0) -> tuple[Padded, Padded]:
    """The first member's batch as the reference has it, with `extra` more steps of padding."""
    lengths = torch.tensor(SPEECH_LENGTHS[0])
    logits = torch.zeros(len(lengths), int(lengths.max()) + extra, V).double()
    symbols = torch.zeros(len(lengths), max(TEXT_LENGTHS) + extra, V).double()
    symbols[:, :, PAD] = 1
    for row, (said, ids) in enumerate(zip(speech(0), sentences(), strict=True)):
        logits[row, : len(said)] = said
        symbols[row, : len(ids)] = one_hot(ids)
    speech_mask = torch.arange(logits.shape[1]) < lengths.unsqueeze(1)
    text_mask = torch.arange(symbols.shape[1]) < torch.tensor(TEXT_LENGTHS).unsqueeze(1)
    return Padded(logits, speech_mask), Padded(symbols, text_mask)


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
def test_scores_equal_layer_by_layer(depth: int) -> None:
    networks, critics = make_members(depth)
    batch = generated()
    found = critics.scores(critics.hear(critics.table(), batch.logits, batch.layout), batch.layout)
    heard = critics.hear_text(critics.table(), text())
    layout = Layout(*(part.expand(2, -1) for part in text().layout))
    of_text = critics.scores(heard.transpose(0, 1), layout)
    for member, network in enumerate(networks):
        expected = [slow_score(network, row) for row in speech(member)]
        torch.testing.assert_close(found[member], torch.stack(expected))
        expected = [slow_score(network, one_hot(ids)) for ids in sentences()]
        torch.testing.assert_close(of_text[member], torch.stack(expected))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scores_of_the_padded_discriminator_equal_layer_by_layer(depth: int) -> None:
    network = make_discriminator(depth)
    batch, _ = padded(extra=2)
    scores = network(batch.values, batch.mask)
    torch.testing.assert_close(scores, torch.stack([slow_score(network, x) for x in speech(0)]))
    without_mask = network(batch.values, None)
    torch.testing.assert_close(
        without_mask, torch.stack([slow_score(network, row) for row in batch.values])
    )


@pytest.mark.parametrize("depth", [2, 3])
def test_gradients_of_all_layers_are_right(depth: int) -> None:
    networks, critics = make_members(depth)
    batch = generated()
    logits = batch.logits.clone().requires_grad_()
    scores = critics.scores(critics.hear(critics.table(), logits, batch.layout), batch.layout)
    heard = critics.hear_text(critics.table(), text())
    layout = Layout(*(part.expand(2, -1) for part in text().layout))
    of_text = critics.scores(heard.transpose(0, 1), layout)
    (scores.sum() + 2 * of_text.sum()).backward()
    for member, network in enumerate(networks):
        said = [row.requires_grad_() for row in speech(member)]
        slow = torch.stack([slow_score(network, row) for row in said]).sum()
        slow = slow + 2 * torch.stack([slow_score(network, one_hot(i)) for i in sentences()]).sum()
        slow.backward()
        expected = [conv.weight.grad for conv in network.convolutions()]
        expected += [conv.bias.grad for conv in network.convolutions() if conv.bias is not None]
        for found, wanted in zip(critics.parameters(), expected, strict=True):
            assert found.grad is not None
            torch.testing.assert_close(found.grad[member], wanted)
        by_input = torch.cat([row.grad for row in said if row.grad is not None])
        assert logits.grad is not None
        torch.testing.assert_close(logits.grad[member, : len(by_input)], by_input)
        assert not logits.grad[member, len(by_input) :].any()


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def expected_adversarial(network: Discriminator, member: int) -> tuple[float, float, float]:
    """Of generated speech called generated, text called text, and generated speech called text."""
    fakes = [slow_score(network, row.softmax(-1)).item() for row in speech(member)]
    reals = [slow_score(network, one_hot(ids)).item() for ids in sentences()]
    size = len(fakes)
    return (
        -sum(math.log(sigmoid(x)) for x in fakes) / size,
        -sum(math.log(1 - sigmoid(x)) for x in reals) / size,
        -sum(math.log(1 - sigmoid(x)) for x in fakes) / size,
    )


def test_adversarial_terms_have_the_labels_of_the_reference() -> None:
    networks, critics = make_members()
    weights = stack([choose(GanConfig(), 0)] * 2, CPU)
    terms = PaperObjective(NOTHING).critic_terms(critics, generated(), text(), weights, ALPHA)
    fooled = PaperObjective(NOTHING).generator_terms(critics, generated(), text(), weights)[
        "adversarial"
    ]
    for member, network in enumerate(networks):
        fake, real, wanted = expected_adversarial(network, member)
        assert terms["fake"][member].item() == pytest.approx(fake)
        assert terms["real"][member].item() == pytest.approx(real)
        assert fooled[member].item() == pytest.approx(wanted)
    choice, rng = choose(GanConfig(), 0), torch.Generator().manual_seed(0)
    theirs = reference.discriminator_objective(networks[0], *padded(3), choice, rng)
    theirs |= reference.generator_objective(networks[0], padded(3)[0], choice)
    fake, real, wanted = expected_adversarial(networks[0], 0)
    assert theirs["fake"].item() == pytest.approx(fake)
    assert theirs["real"].item() == pytest.approx(real)
    assert theirs["adversarial"].item() == pytest.approx(wanted)


def test_smoothness() -> None:
    found = objective.smoothness(generated())
    totals = []
    for member in (0, 1):
        total, pairs = 0.0, 0
        for row in speech(member):
            for t in range(len(row) - 1):
                total += float(((row[t + 1] - row[t]) ** 2).mean())
                pairs += 1
        assert found[member].item() == pytest.approx(total / pairs)
        totals.append(total)
    pairs = len(SPEECH_LENGTHS[0]) * (max(SPEECH_LENGTHS[0]) + 2 - 1)
    theirs = reference.smoothness(padded(extra=2)[0])
    assert float(theirs) == pytest.approx(totals[0] / pairs)


def slow_perplexity(logits: list[Tensor]) -> float:
    mean, steps = [0.0] * V, 0
    for row in logits:
        for t in range(len(row)):
            weights = [math.exp(value) for value in row[t].tolist()]
            mean = [m + w / sum(weights) for m, w in zip(mean, weights, strict=True)]
            steps += 1
    return math.exp(-sum(m / steps * math.log(m / steps + 1e-7) for m in mean))


def test_perplexity_of_the_mean_distribution() -> None:
    batch = generated()
    found = objective.perplexity(batch.logits.softmax(-1), batch.layout)
    assert found.tolist() == pytest.approx([slow_perplexity(speech(member)) for member in (0, 1)])
    logits, _ = padded(extra=2)
    theirs = reference.perplexity(logits.values.softmax(-1))
    assert float(theirs) == pytest.approx(slow_perplexity(list(logits.values)))


def test_diversity_penalty_is_zero_for_even_use_and_largest_for_one_phone() -> None:
    layout = Layout.of(torch.tensor([4, 4]))
    even = torch.full((1, 8, V), 1 / V)
    one = torch.zeros(1, 8, V)
    one[..., 2] = 1
    for use, penalty in ((even, 0.0), (one, 1 - 1 / V)):
        found = objective.diversity_penalty(objective.perplexity(use, layout), V)
        assert float(found) == pytest.approx(penalty, abs=1e-5)


def finite_difference_slope(network: Discriminator, x: Tensor, step: float = 1e-5) -> Tensor:
    slope = torch.zeros_like(x)
    for t in range(x.shape[0]):
        for v in range(x.shape[1]):
            nudge = torch.zeros_like(x)
            nudge[t, v] = step
            rise = slow_score(network, x + nudge) - slow_score(network, x - nudge)
            slope[t, v] = rise / (2 * step)
    return slope


def mixtures(member: int) -> list[Tensor]:
    """The interpolated pair of every utterance, cut to the shorter of the two."""
    found = []
    for a, said, ids in zip(ALPHA, speech(member), sentences(), strict=True):
        steps = min(len(said), len(ids))
        found.append(a * one_hot(ids)[:steps] + (1 - a) * said[:steps].softmax(-1))
    return found


def our_penalty(critics: Critics) -> Tensor:
    table, batch = critics.table(), generated()
    heard = critics.hear(table, batch.logits.softmax(-1), batch.layout)
    heard_text = critics.hear_text(table, text())
    return objective.gradient_penalty(
        critics, table, heard, batch.layout, heard_text, text(), ALPHA
    )


def their_penalty(network: Discriminator) -> Tensor:
    said, real = padded()
    fake = said.values.softmax(-1)
    return reference.gradient_penalty(network, fake, real.values, ALPHA.view(-1, 1, 1))


@pytest.mark.parametrize("depth", [2, 3])
def test_gradient_penalty_equals_finite_differences_utterance_by_utterance(depth: int) -> None:
    networks, critics = make_members(depth)
    found = our_penalty(critics)
    for member, network in enumerate(networks):
        with torch.no_grad():
            slopes = [finite_difference_slope(network, x) for x in mixtures(member)]
        expected = torch.stack([(slope.norm() - 1) ** 2 for slope in slopes]).mean()
        torch.testing.assert_close(found[member].detach(), expected, rtol=1e-6, atol=1e-8)


def test_gradient_penalty_of_the_reference_equals_finite_differences() -> None:
    network = make_discriminator()
    said, real = padded()
    steps = min(said.values.shape[1], real.values.shape[1])
    penalties = []
    with torch.no_grad():
        for a, fake, symbols in zip(ALPHA, said.values.softmax(-1), real.values, strict=True):
            slope = finite_difference_slope(network, a * symbols[:steps] + (1 - a) * fake[:steps])
            # One norm over time for every symbol, summed.
            penalties.append(((slope.norm(dim=0) - 1) ** 2).sum())
    torch.testing.assert_close(
        their_penalty(network), torch.stack(penalties).mean(), rtol=1e-6, atol=1e-8
    )


def check_gradient(penalty: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    """Compare the gradient of one entry of every parameter with differences."""
    for parameter in parameters:
        parameter.requires_grad_()
    penalty().backward()  # type: ignore[no-untyped-call]
    for parameter in parameters:
        index = (0,) * parameter.dim()
        values = []
        for nudge in (1e-5, -2e-5):
            with torch.no_grad():
                parameter[index] += nudge
            values.append(float(penalty().detach()))
        with torch.no_grad():
            parameter[index] += 1e-5
        # The last bias moves every score alike and no slope.
        analytic = 0.0 if parameter.grad is None else float(parameter.grad[index])
        assert analytic == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("depth", [2, 3])
def test_gradient_of_the_gradient_penalty(depth: int) -> None:
    _, critics = make_members(depth)
    check_gradient(lambda: our_penalty(critics).sum(), critics.parameters())


def test_gradient_of_the_gradient_penalty_of_the_reference() -> None:
    network = make_discriminator()
    check_gradient(lambda: their_penalty(network), list(network.parameters()))


def test_padding_changes_the_reference_as_documented() -> None:
    network, choice = make_discriminator(), choose(GanConfig(reference=True), 0)
    plain, more = (
        reference.discriminator_objective(
            network, *padded(extra), choice, torch.Generator().manual_seed(5)
        )
        | reference.generator_objective(network, padded(extra)[0], choice)
        for extra in (0, 7)
    )
    for name in ("adversarial", "fake", "real"):  # the discriminator's mask is right there too
        assert more[name].item() == pytest.approx(plain[name].item())
    assert more["diversity"] < plain["diversity"]  # uniform padding looks like variety
    assert more["smoothness"] < plain["smoothness"]  # divided by the padded length
    assert more["gradient_penalty"].item() != pytest.approx(plain["gradient_penalty"].item())


@pytest.mark.parametrize("kind", [PaperObjective(NOTHING), RelativisticObjective(NOTHING)])
def test_weights_are_those_of_the_member(kind: Objective) -> None:
    _, critics = make_members()
    ones, weighted = Choice(1, 1, 1, 1, 1, 1, 1, 1), Choice(2, 3, 5, 1, 1, 1, 1, 1)
    weights = stack([ones, weighted], CPU)
    even = stack([ones, ones], CPU)
    terms, plain = (
        kind.critic_terms(critics, generated(), text(), each, ALPHA)
        | kind.generator_terms(critics, generated(), text(), each)
        for each in (weights, even)
    )
    for name, factor in (("gradient_penalty", 2), ("smoothness", 3), ("diversity", 5)):
        assert terms[name][0].item() == pytest.approx(plain[name][0].item())
        assert terms[name][1].item() == pytest.approx(factor * plain[name][1].item())


def test_relativistic_terms_compare_each_utterance_with_its_sentence() -> None:
    networks, critics = make_members()
    weights = stack([Choice(2.0, 1, 1, 1, 1, 1, 1, 1)] * 2, CPU)
    kind = RelativisticObjective(NOTHING)
    terms = kind.critic_terms(critics, generated(), text(), weights, ALPHA)
    fooled = kind.generator_terms(critics, generated(), text(), weights)["adversarial"]
    for member, network in enumerate(networks):
        fakes, reals = [row.softmax(-1) for row in speech(member)], map(one_hot, sentences())
        apart, wanted, slopes = [], [], []
        with torch.no_grad():
            for fake, real in zip(fakes, reals, strict=True):
                lead = float(slow_score(network, fake) - slow_score(network, real))
                apart.append(-math.log(sigmoid(lead)))
                wanted.append(-math.log(sigmoid(-lead)))
                slopes += [finite_difference_slope(network, x).square().sum() for x in (fake, real)]
        assert terms["apart"][member].item() == pytest.approx(sum(apart) / len(apart))
        assert fooled[member].item() == pytest.approx(sum(wanted) / len(wanted))
        # lambda / 2 times both means
        expected = 2.0 / 2 * float(sum(slopes)) / len(fakes)
        assert terms["gradient_penalty"][member].item() == pytest.approx(expected, rel=1e-6)


def test_skipgram_distance_counts_pairs_within_utterances() -> None:
    rng = torch.Generator().manual_seed(2)
    tables = torch.rand(3, V, V, generator=rng).double()
    batch = generated()
    probabilities = batch.logits.softmax(-1)
    found = skipgram_distance(probabilities, batch.layout, tables)
    for member in (0, 1):
        total = 0.0
        for k in (1, 2, 3):
            counts, pairs = torch.zeros(V, V).double(), 0
            for row in speech(member):
                said = row.softmax(-1)
                for t in range(len(said) - k):
                    counts += torch.outer(said[t], said[t + k])
                    pairs += 1
            total += float((counts / pairs - tables[k - 1]).abs().sum()) / 3
        assert float(found[member]) == pytest.approx(total)


def test_the_text_has_no_distance_from_itself() -> None:
    said = [[[1, 2], [3]], [[4, 1, 2, 2, 3]], [[2], [4, 4, 1]]]
    text = PlantedText(("<SIL>", "a", "b", "c", "d"), said, silence_probability=0.0)
    tables = skipgram_tables(text, V, seed=0)
    assert tables.sum((1, 2)).tolist() == pytest.approx([1.0] * len(tables))
    rows = [text.sentence_with_silence(i, np.random.default_rng(0)) for i in range(3)]
    ids = torch.cat([torch.from_numpy(row).long() for row in rows]).unsqueeze(0)
    layout = Layout.of(torch.tensor([len(row) for row in rows]))
    same = skipgram_distance(one_hot(ids), layout, tables.double())
    assert float(same) == pytest.approx(0.0, abs=1e-6)
    other = skipgram_distance(one_hot((ids + 1) % V), layout, tables.double())
    assert 0.5 < float(other) <= 2


def test_position_distance_counts_from_both_ends() -> None:
    said = [[[1, 2], [3]], [[4, 1, 2, 2, 3, 1, 1, 2]], [[2]]]
    planted = PlantedText(("<SIL>", "a", "b", "c", "d"), said, silence_probability=0.0)
    tables = position_tables(planted, V, seed=0).double()
    # Silence at both ends, then the first phone of each sentence: a, d, b.
    assert tables[0, 0].tolist() == tables[1, 0].tolist() == [1, 0, 0, 0, 0]
    assert tables[0, 1].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 0, 1 / 3])
    assert tables[1, 1].tolist() == pytest.approx([0, 0, 2 / 3, 1 / 3, 0])
    found = position_distance(generated().logits.softmax(-1), generated().layout, tables)
    for member in (0, 1):
        total = 0.0
        for end in (0, 1):
            for place in range(PLACES):
                rows = [row.softmax(-1) for row in speech(member) if len(row) > place]
                there = [row[-1 - place if end else place] for row in rows]
                mean = torch.stack(there).mean(0)
                total += float((mean - tables[end, place]).abs().sum())
        assert float(found[member]) == pytest.approx(total / 2 / PLACES)


def test_cluster_loss_is_a_mean_over_what_has_a_code() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 6, 4, generator=generator).double()
    codes = torch.tensor([3, 0, NO_CODE, 1, NO_CODE, 2])
    found = code_loss(logits, codes)
    for member in (0, 1):
        told = [
            -math.log(float(logits[member, t].softmax(-1)[code]))
            for t, code in enumerate(codes.tolist())
            if code != NO_CODE
        ]
        assert float(found[member]) == pytest.approx(sum(told) / 4)
