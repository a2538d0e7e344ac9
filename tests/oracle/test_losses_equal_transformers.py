"""Losses and quantizer against transformers' own wav2vec 2.0: same inputs, masks, distractors."""

from __future__ import annotations

import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

from wav2vec_u.pretrain.losses import (
    code_perplexity,
    contrastive_loss,
    diversity_loss,
    perplexity_diversity_loss,
    sample_distractors,
)
from wav2vec_u.pretrain.masking import span_mask
from wav2vec_u.pretrain.objectives import ProductQuantizer
from wav2vec_u.runtime.seeds import torch_generator

G, DISTRACTORS, ALPHA, KAPPA = 2, 7, 0.1, 0.1
LENGTHS = torch.tensor([900, 640, 250])  # samples
STRIDE, KERNEL = 8, 10  # of both convolutions together


def tiny_config(codes: int) -> Wav2Vec2Config:
    return Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(12, 12),
        conv_kernel=(4, 3),
        conv_stride=(4, 2),
        num_feat_extract_layers=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        num_codevectors_per_group=codes,
        num_codevector_groups=G,
        codevector_dim=10,
        proj_codevector_dim=14,
        num_negatives=DISTRACTORS,
        contrastive_logits_temperature=KAPPA,
        diversity_loss_weight=ALPHA,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        feat_quantizer_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=True,
    )


@pytest.fixture(params=[2, 40], ids=["codes_shared_by_many_steps", "many_codes"])
def model(request: pytest.FixtureRequest) -> Wav2Vec2ForPreTraining:
    torch.manual_seed(0)
    return Wav2Vec2ForPreTraining(tiny_config(request.param)).train()


def test_losses_and_gradients(model: Wav2Vec2ForPreTraining) -> None:
    samples = torch.arange(900)[None] < LENGTHS[:, None]  # (B, samples)
    waveforms = torch.randn(3, 900, generator=torch_generator(1)) * samples
    steps = model._get_feat_extract_output_lengths(LENGTHS)
    valid = torch.arange(int(steps.max()))[None] < steps[:, None]  # (B, T)
    mask = span_mask(valid, 0.1, 5, torch_generator(2))
    distractors = sample_distractors(mask, DISTRACTORS, torch_generator(3))
    code_logits: list[torch.Tensor] = []
    model.quantizer.weight_proj.register_forward_hook(
        lambda layer, inputs, output: code_logits.append(output)
    )
    theirs = model(
        waveforms,
        attention_mask=samples.long(),
        mask_time_indices=mask,
        # Theirs count through the whole batch.
        sampled_negative_indices=distractors + torch.arange(3)[:, None, None] * valid.shape[1],
    )
    n_codes = model.config.num_codevectors_per_group
    soft = code_logits[0].view(*valid.shape, G, n_codes).softmax(dim=3)
    probabilities = soft[mask].mean(dim=0)  # (G, V)

    ours = contrastive_loss(
        theirs.projected_states, theirs.projected_quantized_states, mask, distractors, KAPPA
    )
    diversity = perplexity_diversity_loss(probabilities)
    loss = ours.total + ALPHA * diversity * ours.count

    assert ours.count == int(mask.sum()) > 50
    same = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(ours.total, theirs.contrastive_loss, **same)
    torch.testing.assert_close(
        code_perplexity(probabilities).sum(), theirs.codevector_perplexity, **same
    )
    torch.testing.assert_close(diversity * ours.count, theirs.diversity_loss, **same)
    torch.testing.assert_close(loss, theirs.loss, **same)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    our_gradients = torch.autograd.grad(loss, learned, retain_graph=True, allow_unused=True)
    their_gradients = torch.autograd.grad(theirs.loss, learned, allow_unused=True)
    for mine, yours in zip(our_gradients, their_gradients, strict=True):
        assert (mine is None) == (yours is None)
        if mine is not None:
            torch.testing.assert_close(mine, yours, atol=1e-4, rtol=1e-4)


def test_a_distractor_equal_to_the_target_is_left_out_as_theirs(
    model: Wav2Vec2ForPreTraining,
) -> None:
    """Of the two models above, the one with few codes has such distractors, and many."""
    quantizer = model.quantizer.eval()
    features = torch.randn(1, 30, 12, generator=torch_generator(1))
    quantized, _ = quantizer(features)
    equal = (quantized[0, :, None] == quantized[0, None]).all(dim=2).float().mean()
    assert (float(equal) > 0.2) == (model.config.num_codevectors_per_group == 2)


def test_both_diversity_losses_are_least_for_even_codes() -> None:
    """Equation 4 and the code differ in scale alone: each falls as the entropies grow."""
    even = torch.full((G, 8), 1 / 8)
    logits = torch.randn(50, G, 8, generator=torch_generator(4))
    probabilities = [(sharpness * logits[0]).softmax(dim=1) for sharpness in (0, 0.5, 1, 2, 4)]
    for form in (diversity_loss, perplexity_diversity_loss):
        losses = [float(form(given)) for given in probabilities]
        assert losses == sorted(losses) and losses[0] < losses[-1]
        assert all(
            float(form(given)) > float(form(even)) for given in logits.softmax(dim=2).unbind()
        )
    # exp H = exp(-V times equation 4), for one codebook.
    one = logits[1, :1].softmax(dim=1)
    expected = 1 - torch.exp(-8 * diversity_loss(one)) / 8
    torch.testing.assert_close(perplexity_diversity_loss(one), expected)


@pytest.mark.parametrize("training", [False, True])
def test_quantizer(training: bool) -> None:
    torch.manual_seed(0)
    theirs = Wav2Vec2GumbelVectorQuantizer(tiny_config(9)).train(training)
    torch.nn.init.normal_(theirs.weight_proj.weight)
    torch.nn.init.uniform_(theirs.codevectors)
    theirs.temperature = 0.7
    ours = ProductQuantizer(12, G, 9, 10).train(training)
    ours.load_state_dict(theirs.state_dict())
    vectors = torch.randn(1, 25, 12, requires_grad=True)

    generator = torch.Generator().manual_seed(5)
    quantized, probabilities, choices = ours(vectors[0], 0.7, generator)
    torch.manual_seed(5)
    expected, perplexity = theirs(vectors)

    torch.testing.assert_close(quantized, expected[0], atol=1e-5, rtol=1e-5)
    used = probabilities if training else choices
    torch.testing.assert_close(code_perplexity(used.mean(dim=0)).sum(), perplexity)
    if training:
        weight = torch.randn(25, 10)
        mine = torch.autograd.grad((quantized * weight).sum(), [vectors, *ours.parameters()])
        yours = torch.autograd.grad((expected[0] * weight).sum(), [vectors, *theirs.parameters()])
        names = [name for name, _ in theirs.named_parameters()]
        ordered = dict(zip((name for name, _ in ours.named_parameters()), mine[1:], strict=True))
        torch.testing.assert_close(mine[0], yours[0], atol=1e-5, rtol=1e-5)
        for name, value in zip(names, yours[1:], strict=True):
            torch.testing.assert_close(ordered[name], value, atol=1e-5, rtol=1e-5)
