"""Blocks that are added to a network: nothing changes at first, and then they learn."""

from __future__ import annotations

import pytest
import torch
from tiny_pretrain import TINY, WAVES, tiny_network

from wav2vec_u.config import NetworkConfig
from wav2vec_u.encoder.deepen import deepen

LENGTHS = torch.tensor([16_000, 12_000])


@pytest.mark.parametrize("shape", [TINY, WAVES], ids=["conformer", "transformer"])
def test_new_blocks_change_nothing(shape: NetworkConfig) -> None:
    network = tiny_network(shape)
    deeper = deepen(network, 2, seed=0)
    assert deeper.config == shape.model_copy(update={"blocks": shape.blocks + 2})
    assert network.config == shape
    waveforms = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = network(waveforms, LENGTHS, keep_blocks=True)
        after = deeper(waveforms, LENGTHS, keep_blocks=True)
    torch.testing.assert_close(after.context, before.context)
    assert len(after.blocks) == shape.blocks + 2
    for old, new in zip(before.blocks, after.blocks, strict=False):
        torch.testing.assert_close(new, old)
    torch.testing.assert_close(after.blocks[-1], before.blocks[-1])


@pytest.mark.parametrize("shape", [TINY, WAVES], ids=["conformer", "transformer"])
def test_all_that_is_new_learns_after_two_steps(shape: NetworkConfig) -> None:
    """The zeros hide what is before them from the first gradient, and from no later one."""
    deeper = deepen(tiny_network(shape), 1, seed=0).train()
    optimizer = torch.optim.SGD(deeper.parameters(), lr=0.1)
    waveforms = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    aims = torch.randn(shape.dim, generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        optimizer.zero_grad()
        (deeper(waveforms, LENGTHS).context @ aims).square().mean().backward()
        optimizer.step()
    weights = [value for value in deeper.context.layers[-1].parameters() if value.ndim >= 2]
    assert weights
    assert all(bool(value.grad.abs().sum() > 0) for value in weights if value.grad is not None)
    assert all(value.grad is not None for value in weights)


def test_the_seed_decides_what_is_new() -> None:
    network = tiny_network()
    first, same, other = (deepen(network, 1, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_none_is_the_same_network() -> None:
    network = tiny_network()
    same = deepen(network, 0, seed=0)
    assert not same.training
    for name, value in network.state_dict().items():
        assert torch.equal(same.state_dict()[name], value)
