from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wav2vec_u.config import GanConfig, MatchingConfig
from wav2vec_u.matching.gan import Member, train_gan
from wav2vec_u.matching.generator import Generator
from wav2vec_u.runtime.checkpoint import load_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import PlantedSegments, plant

PLANTED = plant(make_language(0), utterances=24, sentences=60, dim=8)
V = len(PLANTED.text.phones)


def config(seeds: int = 1, seed: int = 0, **gan: Any) -> MatchingConfig:
    small = {
        "batch_size": 4,
        "discriminator_dim": 8,
        "updates": 12,
        "checkpoint_every": 4,
        "log_every": 2,
        "score_utterances": 4,
    }
    return MatchingConfig(seeds=seeds, seed=seed, device="cpu", gan=GanConfig(**(small | gan)))


class CountingModel:
    """A language model that likes one call's transcripts more than those of all others."""

    def __init__(self, favourite: int, utterances: int) -> None:
        self.calls = 0
        self.favourite = favourite
        self.utterances = utterances

    def log10_prob(self, sentence: Sequence[int]) -> float:
        scoring = self.calls // self.utterances
        self.calls += 1
        return (-1.0 if scoring == self.favourite else -3.0) * (len(sentence) + 1)


class PickyModel:
    """A language model that depends on the transcript alone."""

    def log10_prob(self, sentence: Sequence[int]) -> float:
        return -1.0 - sum(0.1 * (phone % 5) for phone in sentence)


def weights(generator: Generator) -> torch.Tensor:
    return torch.cat([value.flatten() for value in generator.state_dict().values()])


def run(folder: Path, settings: MatchingConfig, **options: Any) -> Any:
    return train_gan(folder, PLANTED.segments, PLANTED.text, settings, **options)


def log(folder: Path, member: int = 0) -> list[dict[str, Any]]:
    text = (folder / f"member_{member:02d}" / "log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_same_seed_same_result_whatever_torch_drew_before(tmp_path: Path) -> None:
    (first,) = run(tmp_path / "a", config())
    torch.manual_seed(99)
    (again,) = run(tmp_path / "b", config())
    (other,) = run(tmp_path / "c", config(seed=1))
    assert torch.equal(weights(first.generator), weights(again.generator))
    assert log(tmp_path / "a") == log(tmp_path / "b")
    assert not torch.equal(weights(first.generator), weights(other.generator))


def test_members_differ_and_do_not_depend_on_each_other(tmp_path: Path) -> None:
    both = run(tmp_path / "a", config(seeds=2))
    (alone,) = run(tmp_path / "b", config(seeds=1))
    assert [result.member for result in both] == [0, 1]
    assert torch.equal(weights(both[0].generator), weights(alone.generator))
    assert not torch.equal(weights(both[0].generator), weights(both[1].generator))


@pytest.mark.parametrize(("killed_at", "reference"), [(1, False), (6, False), (7, True)])
def test_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int, reference: bool
) -> None:
    settings = config(seeds=2, reference=reference, generator_batch_norm=2.0)
    expected = run(tmp_path / "whole", settings, dev_lm=PickyModel())
    step = Member.step

    def killed(self: Member, update: int) -> Any:
        if self.number == 1 and update == killed_at:
            raise KeyboardInterrupt
        return step(self, update)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Member, "step", killed)
        run(tmp_path / "cut", settings, dev_lm=PickyModel())
    with (tmp_path / "cut/member_01/log.jsonl").open("a") as file:
        file.write('{"update": 7, "gener')  # the kill came in the middle of a line
    found = run(tmp_path / "cut", settings, dev_lm=PickyModel(), resume=True)

    for member in (0, 1):
        assert found[member].update == expected[member].update
        assert found[member].score == expected[member].score
        assert torch.equal(weights(found[member].generator), weights(expected[member].generator))
        assert log(tmp_path / "cut", member) == log(tmp_path / "whole", member)
        name = f"member_{member:02d}/checkpoint.safetensors"
        pair = [load_checkpoint(tmp_path / folder / name) for folder in ("cut", "whole")]
        assert same(*pair)


def same(a: Any, b: Any) -> bool:
    """Compare nested checkpoints to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_without_resume_what_was_there_is_removed(tmp_path: Path) -> None:
    run(tmp_path, config())
    (again,) = run(tmp_path, config(seed=5))
    (fresh,) = run(tmp_path / "fresh", config(seed=5))
    assert torch.equal(weights(again.generator), weights(fresh.generator))
    assert [row["update"] for row in log(tmp_path)] == [2, 4, 6, 8, 10, 12]


def test_log_has_losses_norms_perplexity_and_scores(tmp_path: Path) -> None:
    run(tmp_path, config(), dev_lm=CountingModel(0, 4))
    rows = log(tmp_path)
    for name in (
        "generator_adversarial",
        "generator_smoothness",
        "generator_diversity",
        "generator_gradient_norm",
        "discriminator_fake",
        "discriminator_real",
        "discriminator_gradient_penalty",
        "discriminator_gradient_norm",
    ):
        assert all(math.isfinite(row[name]) for row in rows)
    assert all(1 <= row["perplexity"] <= V for row in rows)
    assert [row["update"] for row in rows if "lm_ppl" in row] == [4, 8, 12]


def test_the_best_checkpoint_is_kept(tmp_path: Path) -> None:
    (result,) = run(tmp_path / "a", config(), dev_lm=CountingModel(1, 4))
    assert result.update == 8
    (short,) = run(tmp_path / "b", config(updates=8))
    assert torch.equal(weights(result.generator), weights(short.generator))
    assert len(result.candidate.hypotheses) == 4
    assert result.candidate.log_prob < 0
    (last,) = run(tmp_path / "c", config())
    assert last.update == 12
    assert last.score is None


def test_a_member_that_is_not_finite_is_dropped_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = Member.step

    def poisoned(self: Member, update: int) -> Any:
        if self.number == 0 and update == 5:
            with torch.no_grad():
                self.generator.conv.weight.fill_(math.nan)
        return step(self, update)

    monkeypatch.setattr(Member, "step", poisoned)
    with caplog.at_level(logging.WARNING):
        results = run(tmp_path, config(seeds=2))
    assert [result.member for result in results] == [1]
    assert "member 00 is dropped" in caplog.text
    assert json.loads((tmp_path / "member_00/dropped.json").read_text())["update"] == 6
    monkeypatch.undo()
    assert [r.member for r in run(tmp_path, config(seeds=2), resume=True)] == [1]


def test_no_finite_member_is_the_users_matter(tmp_path: Path) -> None:
    bad = PlantedSegments(
        [np.full((5, 8), np.nan, dtype=np.float32)], [np.zeros(5, dtype=np.int64)], ["train"]
    )
    with pytest.raises(UserError, match="no restart stayed finite"):
        train_gan(tmp_path, bad, PLANTED.text, config(seeds=2))


def test_from_a_start_the_discriminator_learns_first(tmp_path: Path) -> None:
    start = Generator(8, V, kernel=4)
    settings = config(updates=6, start_discriminator_updates=6)
    (result,) = run(tmp_path / "a", settings, start=start.state_dict())
    assert torch.equal(weights(result.generator), weights(start))
    settings = config(updates=7, start_discriminator_updates=6)
    (result,) = run(tmp_path / "b", settings, start=start.state_dict())
    assert not torch.equal(weights(result.generator), weights(start))


def test_a_start_is_taken_over(tmp_path: Path) -> None:
    start = Generator(8, V, kernel=4)
    for reference in (False, True):
        slow = config(
            updates=8, generator_lr=1e-9, start_discriminator_updates=3, reference=reference
        )
        (result,) = run(tmp_path, slow, start=start.state_dict())
        torch.testing.assert_close(weights(result.generator), weights(start))
    with pytest.raises(UserError, match="generator_kernel"):
        run(tmp_path, config(generator_kernel=1), start=start.state_dict())


@pytest.mark.parametrize("reference", [False, True])
def test_only_the_reference_computes_gradients_that_nobody_uses(
    tmp_path: Path, reference: bool
) -> None:
    settings = config(reference=reference)
    member = Member(0, tmp_path, PLANTED.segments, PLANTED.text, settings, None, None)
    for update, idle in ((0, member.discriminator), (1, member.generator)):
        before = [parameter.detach().clone() for parameter in idle.parameters()]
        member.step(update)
        unused = [parameter.grad is not None for parameter in idle.parameters()]
        assert all(unused) if reference else not any(unused)
        for old, new in zip(before, idle.parameters(), strict=True):
            assert torch.equal(old, new)


def test_the_reference_has_four_more_outputs_but_says_only_phones(tmp_path: Path) -> None:
    settings = config(reference=True)
    member = Member(0, tmp_path, PLANTED.segments, PLANTED.text, settings, None, None)
    assert member.generator.settings["n_phones"] == V + 4
    with torch.no_grad():
        member.generator.conv.weight[V:] *= 50.0  # specials win almost everywhere
    said = np.concatenate(member.candidate().hypotheses)
    assert (said < V).all()
    assert (said > 0).all()
    (result,) = run(tmp_path, settings)
    assert result.generator.settings["n_phones"] == V
    real = member._real(0)
    assert real.symbols[~real.mask].argmax(-1).unique().tolist() == [V + 1]
    assert float(real.symbols.sum(-1).min()) == 1.0


@pytest.mark.parametrize("segmenter", ["none", "random", "uniform", "uniform_join", "join"])
def test_every_segmenter_trains(tmp_path: Path, segmenter: str) -> None:
    (result,) = run(tmp_path, config(segmenter=segmenter, updates=4))
    assert len(result.candidate.hypotheses) == 4
