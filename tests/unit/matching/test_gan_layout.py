"""Utterances in a row: joining runs, and what each step sees of those before it."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wav2vec_u.matching.gan import reference
from wav2vec_u.matching.gan.layout import Layout, add_windows, join, windows

utterances = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=5)


def logits_of(members: list[list[list[int]]]) -> tuple[Tensor, Layout]:
    """Random logits whose best symbols are the labels of every member's utterances."""
    labels = torch.tensor([[label for said in member for label in said] for member in members])
    logits = torch.rand(*labels.shape, 4, generator=torch.Generator().manual_seed(0))
    logits.scatter_add_(-1, labels.unsqueeze(-1), torch.ones(*labels.shape, 1))
    lengths = torch.tensor([len(said) for said in members[0]])
    return logits, Layout.of(lengths, len(members))


def two_members(said: list[list[int]]) -> list[list[list[int]]]:
    """The second one says the utterances backwards: as long, and joined elsewhere."""
    return [said, [labels[::-1] for labels in said]]


def runs_of(labels: list[int]) -> list[list[int]]:
    """Positions of every run of equal symbols."""
    runs = itertools.groupby(range(len(labels)), key=lambda t: labels[t])
    return [list(positions) for _, positions in runs]


def rows_of(values: Tensor, layout: Layout, member: int) -> list[Tensor]:
    """A member's utterances, taken apart, with what a layout promises checked on the way."""
    lengths = layout.lengths[member].tolist()
    size = sum(lengths)
    assert layout.valid[member].tolist() == [True] * size + [False] * (len(values[0]) - size)
    assert not values[member, size:].any()
    assert layout.position[member, :size].tolist() == [t for n in lengths for t in range(n)]
    expected = [u for u, n in enumerate(lengths) for _ in range(n)]
    assert layout.utterance[member, :size].tolist() == expected
    return list(values[member, :size].split(lengths))


@settings(max_examples=60, deadline=None)
@given(said=utterances)
def test_join_in_evaluation_is_the_mean_of_every_run(said: list[list[int]]) -> None:
    members = two_members(said)
    logits, layout = logits_of(members)
    joined, merged = join(logits, layout, None)
    for member, labels in enumerate(members):
        before = rows_of(logits, layout, member)
        found = rows_of(joined, merged, member)
        for row, its_labels, its_logits in zip(found, labels, before, strict=True):
            means = [its_logits[run].mean(0) for run in runs_of(its_labels)]
            torch.testing.assert_close(row, torch.stack(means))


@settings(max_examples=60, deadline=None)
@given(said=utterances, seed=st.integers(0, 9))
def test_join_in_training_picks_one_step_of_every_run(said: list[list[int]], seed: int) -> None:
    members = two_members(said)
    logits, layout = logits_of(members)
    draw = torch.rand(logits.shape[1], generator=torch.Generator().manual_seed(seed))
    joined, merged = join(logits, layout, draw)
    for member, labels in enumerate(members):
        before = rows_of(logits, layout, member)
        found = rows_of(joined, merged, member)
        for row, its_labels, its_logits in zip(found, labels, before, strict=True):
            runs = runs_of(its_labels)
            assert len(row) == len(runs)
            for step, run in zip(row, runs, strict=True):
                assert any(torch.equal(step, its_logits[t]) for t in run)
    alone, _ = join(logits[:1], Layout(*(part[:1] for part in layout)), draw)
    torch.testing.assert_close(alone[0], joined[0, : alone.shape[1]], rtol=0, atol=0)


def test_join_in_training_picks_every_step_alike() -> None:
    logits, layout = logits_of([[[1, 1, 1, 2]] * 3000])
    logits[0, :, 0] = torch.tensor([0.1, 0.2, 0.3, 0.0]).repeat(3000)
    draw = torch.rand(logits.shape[1], generator=torch.Generator().manual_seed(0))
    joined, _ = join(logits, layout, draw)
    picked = joined[0, ::2, 0]
    counts = [float((picked == value).float().mean()) for value in (0.1, 0.2, 0.3)]
    assert counts == pytest.approx([1 / 3] * 3, abs=0.04)


def test_join_passes_gradients_to_the_picked_steps_alone() -> None:
    logits, layout = logits_of([[[1, 1, 2], [3, 3, 3]]])
    logits.requires_grad_()
    join(logits, layout, torch.rand(6))[0].sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    picked = (logits.grad != 0).all(-1)[0]
    assert picked[:2].sum() == 1
    assert bool(picked[2])
    assert picked[3:].sum() == 1


@settings(max_examples=60, deadline=None)
@given(said=utterances, extra=st.integers(0, 3))
def test_the_padded_join_of_the_reference_says_the_same(said: list[list[int]], extra: int) -> None:
    logits, layout = logits_of([said])
    joined, merged = join(logits, layout, None)
    padded = pad_sequence(rows_of(logits, layout, 0), batch_first=True)
    padded = torch.nn.functional.pad(padded, (0, 0, 0, extra), value=7.0)
    mask = torch.arange(padded.shape[1]) < layout.lengths[0].unsqueeze(1)
    found, new_mask = reference.join(padded, mask, None)
    torch.testing.assert_close(found[new_mask], joined[0])
    assert not found[~new_mask].any()
    # The padding counts as one more run there.
    runs = merged.lengths[0] + (layout.lengths[0] < padded.shape[1])
    assert found.shape[1] == int(runs.max())


@settings(max_examples=40, deadline=None)
@given(said=utterances, reach=st.integers(1, 5), edges=st.integers(0, 3))
def test_windows_see_the_steps_before_within_the_utterance(
    said: list[list[int]], reach: int, edges: int
) -> None:
    values, layout = logits_of([said])
    seen = windows(values, layout.position, reach, edges)
    for n, position in enumerate(layout.position[0].tolist()):
        for back in range(reach):
            expected = values[0, n - back] if back <= position else torch.zeros(4)
            assert torch.equal(seen[0, n, back * 4 : back * 4 + 4], expected)
        marks = [0.0] * edges
        if edges:
            marks[min(position, edges - 1)] = 1.0
        assert seen[0, n, reach * 4 :].tolist() == marks


def test_windows_and_their_sums_have_the_right_gradients() -> None:
    values, layout = logits_of([[[0, 1, 2], [3, 2, 1, 0]]])
    values = values.double().requires_grad_()
    seen = torch.randn(1, 7, 3 * 4 + 2).double().requires_grad_()
    for function, given_values in (
        (lambda x: windows(x, layout.position, 3, 2), values),
        (lambda x: add_windows(x, layout.position, 3, 2), seen),
    ):
        assert torch.autograd.gradcheck(function, given_values)
        assert torch.autograd.gradgradcheck(function, given_values)


def test_adding_windows_is_the_transpose() -> None:
    values, layout = logits_of([[[0, 1, 2], [3, 2, 1, 0]]])
    seen = torch.randn(1, 7, 12)
    forth = (windows(values, layout.position, 3) * seen).sum()
    back = (values * add_windows(seen, layout.position, 3)).sum()
    torch.testing.assert_close(forth, back)
