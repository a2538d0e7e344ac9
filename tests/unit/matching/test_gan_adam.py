"""Stacked members are optimised as each would be alone."""

from __future__ import annotations

import torch

from wav2vec_u.matching.gan.adam import BETAS, EPS, StackedAdamW, clip

RATES = (0.1, 0.02, 0.003)
DECAY = 0.05


def gradients(update: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(update)
    return [torch.randn(3, 4, 2, generator=rng), 5 * torch.randn(3, 2, generator=rng)]


def begin() -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(99)
    return [torch.randn(3, 4, 2, generator=rng), torch.randn(3, 2, generator=rng)]


def torchs(member: int, updates: range) -> list[torch.Tensor]:
    own = [value[member].clone().requires_grad_() for value in begin()]
    optimizer = torch.optim.AdamW(own, lr=RATES[member], betas=BETAS, eps=EPS, weight_decay=DECAY)
    for update in updates:
        for value, gradient in zip(own, gradients(update), strict=True):
            value.grad = gradient[member].clone()
        torch.nn.utils.clip_grad_norm_(own, 2.0)
        optimizer.step()
    return [value.detach() for value in own]


def test_every_member_moves_as_with_torchs_adamw() -> None:
    stacked = begin()
    optimizer = StackedAdamW(stacked, DECAY)
    for update in range(5):
        clipped, norms = clip(gradients(update), 2.0)
        for member in range(3):
            own = torch.cat([value[member].flatten() for value in gradients(update)])
            torch.testing.assert_close(norms[member], own.norm())
        optimizer.step(clipped, torch.tensor(RATES))
    for member in range(3):
        for found, expected in zip(stacked, torchs(member, range(5)), strict=True):
            torch.testing.assert_close(found[member], expected)


def test_a_member_that_is_reset_begins_anew_and_the_others_go_on() -> None:
    stacked = begin()
    optimizer = StackedAdamW(stacked, DECAY)
    for update in range(5):
        if update == 3:
            optimizer.reset(1)
            for value, first in zip(stacked, begin(), strict=True):
                value[1] = first[1]
        optimizer.step(clip(gradients(update), 2.0)[0], torch.tensor(RATES))
    for member, updates in ((0, range(5)), (1, range(3, 5)), (2, range(5))):
        for found, expected in zip(stacked, torchs(member, updates), strict=True):
            torch.testing.assert_close(found[member], expected)


def test_a_state_that_is_loaded_goes_on_alike() -> None:
    ours, theirs = begin(), begin()
    whole, first, second = StackedAdamW(ours, DECAY), StackedAdamW(theirs, DECAY), None
    for update in range(4):
        whole.step(gradients(update), torch.tensor(RATES))
        if update == 2:
            second = StackedAdamW(theirs, DECAY)
            second.load(first.state())
        (second or first).step(gradients(update), torch.tensor(RATES))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
