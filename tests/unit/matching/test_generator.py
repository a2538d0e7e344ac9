from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from wav2vec_u.matching.generator import Generator, load_generator, save_generator
from wav2vec_u.runtime.checkpoint import save_checkpoint
from wav2vec_u.runtime.errors import UserError

LENGTHS = [6, 9, 1, 4]


def batch(extra: int, filler: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    vectors = torch.full((len(LENGTHS), max(LENGTHS) + extra, 3), filler)
    for row, length in enumerate(LENGTHS):
        vectors[row, :length] = torch.randn(length, 3, generator=rng)
    mask = torch.arange(vectors.shape[1]) < torch.tensor(LENGTHS).unsqueeze(1)
    return vectors, mask


@pytest.mark.parametrize(
    "options", [{}, {"batch_norm": 30.0, "residual": True}, {"batch_norm": 1.0, "hidden": 6}]
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (4, 1), (5, 1), (9, 3), (1, 2), (2, 3)])
def test_padding_and_what_stands_in_it_change_nothing(
    kernel: int, stride: int, training: bool, options: dict[str, float]
) -> None:
    torch.manual_seed(0)
    generator = Generator(3, 7, kernel, stride, dropout=0.0, **options).train(training)
    logits, mask = generator(*batch(0))
    assert mask.sum(1).tolist() == [-(-length // stride) for length in LENGTHS]
    padded, padded_mask = generator(*batch(5, filler=99.0))
    torch.testing.assert_close(logits[mask], padded[padded_mask])


def test_convolution_against_a_loop() -> None:
    torch.manual_seed(0)
    generator = Generator(3, 7, kernel=4, dropout=0.0).eval()
    vectors, mask = batch(0)
    logits, _ = generator(vectors, mask)
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            expected = torch.zeros(7)
            for tap in range(4):
                source = t - 2 + tap  # the reference pads by kernel // 2 in front
                if 0 <= source < length:
                    expected += generator.conv.weight[:, :, tap] @ vectors[row, source]
            torch.testing.assert_close(logits[row, t], expected)


def test_reference_padding_adds_an_output_for_an_even_kernel() -> None:
    torch.manual_seed(0)
    ours = Generator(3, 7, kernel=4, dropout=0.0).eval()
    theirs = Generator(3, 7, kernel=4, dropout=0.0, reference_padding=True).eval()
    theirs.load_state_dict(ours.state_dict())
    logits, mask = ours(*batch(0))
    more, more_mask = theirs(*batch(0))
    assert more.shape[1] == logits.shape[1] + 1
    assert more_mask.sum(1).tolist() == [length + 1 for length in LENGTHS]
    torch.testing.assert_close(more[:, :-1][mask], logits[mask])


def test_dropout_follows_the_given_generator_and_keeps_the_mean() -> None:
    generator = Generator(3, 3, kernel=1, dropout=0.25)
    with torch.no_grad():
        generator.conv.weight.copy_(torch.eye(3).unsqueeze(-1))
    ones, mask = torch.ones(50, 100, 3), torch.ones(50, 100, dtype=torch.bool)
    first, _ = generator(ones, mask, torch.Generator().manual_seed(1))
    again, _ = generator(ones, mask, torch.Generator().manual_seed(1))
    other, _ = generator(ones, mask, torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.mean().item() == pytest.approx(1, abs=0.02)
    assert (first == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_batch_norm_is_torchs_on_the_valid_segments() -> None:
    torch.manual_seed(0)
    generator = Generator(3, 3, kernel=1, dropout=0.0, batch_norm=30.0)
    vectors, mask = batch(2, filler=7.0)
    reference = torch.nn.BatchNorm1d(3)
    torch.nn.init.constant_(reference.weight, 30.0)
    for training in (True, False):
        generator.train(training)
        reference.train(training)
        logits, _ = generator(vectors, mask)
        expected = reference(vectors[mask]) @ generator.conv.weight[:, :, 0].t()
        torch.testing.assert_close(logits[mask], expected, rtol=1e-4, atol=1e-4)


def test_a_hidden_layer_stands_between_convolution_and_output() -> None:
    torch.manual_seed(0)
    generator = Generator(3, 7, kernel=1, dropout=0.0, hidden=5).eval()
    assert generator.output is not None
    vectors, mask = batch(0)
    logits, _ = generator(vectors, mask)
    assert logits.shape == (*vectors.shape[:2], 7)
    hidden = torch.nn.functional.gelu(vectors[mask] @ generator.conv.weight[:, :, 0].t())
    expected = hidden @ generator.output.weight.t() + generator.output.bias
    torch.testing.assert_close(logits[mask], expected)


def test_dropout_of_the_hidden_layer_follows_the_given_generator_too() -> None:
    torch.manual_seed(0)
    generator = Generator(3, 7, kernel=3, dropout=0.3, hidden=16)
    first, again, other = (
        generator(*batch(0), torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    generator.eval()
    assert torch.equal(generator(*batch(0))[0], generator(*batch(0))[0])


SHAPES = [{"batch_norm": 30.0, "residual": True}, {"batch_norm": 1.0, "hidden": 6, "stride": 2}]


@pytest.mark.parametrize("options", SHAPES)
def test_saved_generator_comes_back(tmp_path: Path, options: dict[str, Any]) -> None:
    generator = Generator(3, 7, 5, **options)
    generator(*batch(0))  # in training: the batch norm learns a mean
    generator.eval()
    save_generator(tmp_path / "g.safetensors", generator)
    loaded = load_generator(tmp_path / "g.safetensors")
    assert not loaded.training
    assert loaded.settings == generator.settings
    torch.testing.assert_close(loaded(*batch(1))[0], generator(*batch(1))[0])


@pytest.mark.parametrize("options", [{"reference_padding": True}, *SHAPES])
def test_only_drops_the_last_outputs(options: dict[str, Any]) -> None:
    generator = Generator(3, 7, 4, **options)
    generator(*batch(0))
    generator.eval()
    phones = generator.only(5)
    assert phones.settings["n_phones"] == 5
    torch.testing.assert_close(phones(*batch(0))[0], generator(*batch(0))[0][..., :5])
    before = generator(*batch(0))[0]
    with torch.no_grad():
        for parameter in phones.parameters():
            parameter.zero_()
    assert torch.equal(generator(*batch(0))[0], before)  # a copy, not a view


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    save_checkpoint(path, {"step": 1})
    with pytest.raises(UserError, match=r"g\.safetensors: holds no generator"):
        load_generator(path)
