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
from wav2vec_u.matching.gan.ensemble import Ensemble
from wav2vec_u.matching.gan.feed import Feed
from wav2vec_u.matching.gan.networks import rebuild_generator, start_of
from wav2vec_u.matching.gan.reference import ReferenceMember, ReferenceMembers
from wav2vec_u.matching.gan.train import CHECKPOINT_NAME, Training, train_gan
from wav2vec_u.matching.gan.turns import Turns
from wav2vec_u.matching.generator import Generator
from wav2vec_u.runtime.checkpoint import load_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import PlantedSegments, plant

PLANTED = plant(make_language(0), utterances=24, sentences=60, dim=8)
V = len(PLANTED.text.phones)


def config(seeds: int = 1, seed: int = 0, **gan: Any) -> MatchingConfig:
    small: dict[str, Any] = {
        "batch_size": 4,
        "discriminator_dim": 8,
        "updates": 12,
        "checkpoint_every": 4,
        "log_every": 2,
        "score_utterances": 4,
        "reviews": (),
    }
    return MatchingConfig(seeds=seeds, seed=seed, device="cpu", gan=GanConfig(**(small | gan)))


def members_of(settings: MatchingConfig, numbers: list[int], **options: Any) -> Ensemble:
    feed = Feed(PLANTED.segments, PLANTED.text, settings.gan, settings.seed, codes)
    return Ensemble(numbers, feed, settings.gan, torch.device("cpu"), options.get("start"))


def codes(i: int) -> np.ndarray:
    """Clusters of the segments, for those who ask for them: here, the phone modulo five."""
    return PLANTED.segments.labels(i) % 5


class CountingModel:
    """A language model that likes one call's transcripts more than those of all others."""

    def __init__(self, favourite: int, utterances: int) -> None:
        self.calls = 0
        self.favourite = favourite
        self.utterances = utterances

    def log10_prob(self, sentence: Sequence[int]) -> float:
        scoring = (self.calls - len(PLANTED.text)) // self.utterances  # text is looked at first
        self.calls += 1
        return (-1.0 if scoring == self.favourite else -3.0) * (len(sentence) + 1)


class PickyModel:
    """Bigrams of the text: what a member says that has learned nothing is far from it."""

    def __init__(self) -> None:
        counts = np.ones((V, V))
        for i in range(len(PLANTED.text)):
            ids = np.r_[0, PLANTED.text.sentence(i), 0]
            np.add.at(counts, (ids[:-1], ids[1:]), 1)
        self.log10 = np.log10(counts / counts.sum(1, keepdims=True))

    def log10_prob(self, sentence: Sequence[int]) -> float:
        ids = np.r_[0, np.asarray(sentence, dtype=np.int64), 0]
        return float(self.log10[ids[:-1], ids[1:]].sum())


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


# All kinds of generators, and members with settings of their own.
KINDS: list[dict[str, Any]] = [
    {},
    {"generator_kernel": 3, "generator_stride": 2, "segmenter": "none"},
    {"generator_batch_norm": 3.0, "generator_residual": True, "discriminator_depth": 3},
    {"generator_hidden": 6, "objective": "relativistic", "skipgrams": 2.0},
    {"gradient_penalty": (0.5, 2.0), "diversity": (1.0, 4.0), "generator_lr": (0.001, 0.01)},
    {"objective": "statistics", "positions": (0.5, 2.0)},
    {"generator_residual": True, "auxiliary": (0.0, 0.5), "auxiliary_codes": 5},
    {
        "replay": 0.5,
        "replay_every": 2,
        "discriminator_reset_every": 5,
        "start_discriminator_updates": 2,
    },
    {"warm_up_updates": 4, "start_discriminator_updates": 1},
]
NAMES = [
    "default",
    "stride",
    "version 2",
    "deeper",
    "grid",
    "statistics",
    "clusters told",
    "replay and resets",
    "warm-up",
]


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_member_is_trained_as_it_would_be_alone(tmp_path: Path, kind: dict[str, Any]) -> None:
    together = run(tmp_path / "together", config(seeds=4, **kind), codes=codes)
    assert [result.member for result in together] == [0, 1, 2, 3]
    settings = config(**kind)
    for result in together:
        alone = members_of(settings, [result.member])
        for update in range(settings.gan.updates):
            alone.step(update)
        state = alone.generator_state(0)
        for name, value in result.generator.state_dict().items():
            # Not to the last bit: a product of other sizes adds up in another order.
            torch.testing.assert_close(value, state[name], rtol=1e-3, atol=1e-4)
    vectors = [weights(result.generator) for result in together]
    assert not any(torch.allclose(vectors[0], other) for other in vectors[1:])


def test_members_take_their_settings_in_turn(tmp_path: Path) -> None:
    # A grid of rates, one of which does not move.
    settings = config(seeds=3, generator_lr=(1e-12, 1e-2))
    members = members_of(settings, [0, 1, 2])
    before = [members.generator_state(slot)["conv.weight"] for slot in range(3)]
    for update in range(4):
        members.step(update)
    moved = [
        float((members.generator_state(slot)["conv.weight"] - before[slot]).abs().max())
        for slot in range(3)
    ]
    assert moved[0] < 1e-6
    assert moved[1] > 1e-3
    assert moved[2] < 1e-6


def test_a_new_member_in_anothers_place_starts_from_nothing() -> None:
    settings = config()
    members = members_of(settings, [0, 1])
    for update in range(3):
        members.step(update)
    members.replace(1, 7)
    fresh = members_of(settings, [7])
    for name, value in members.generator_state(1).items():
        assert torch.equal(value, fresh.generator_state(0)[name])
    alone = members_of(settings, [0])
    for update in range(3):
        alone.step(update)
    for update in range(3, 9):
        for trained in (members, fresh, alone):
            trained.step(update)
    for slot, other in ((0, alone), (1, fresh)):
        for name, value in members.generator_state(slot).items():
            expected = other.generator_state(0)[name]
            torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-4)


OPTIONS = {
    "replay": 0.7,
    "replay_every": 1,
    "discriminator_reset_every": 5,
    "start_discriminator_updates": 2,
    "warm_up_updates": 2,
}


@pytest.mark.parametrize(
    ("killed_at", "options"),
    [(1, {}), (6, {}), (7, {"reference": True}), (7, OPTIONS)],
    ids=["at once", "later", "reference", "replay, resets, warm-up"],
)
def test_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int, options: dict[str, Any]
) -> None:
    reference = "reference" in options
    settings = config(seeds=2, generator_batch_norm=2.0, reviews=(0.3,), patience=9, **options)
    expected = run(tmp_path / "whole", settings, dev_lm=PickyModel())
    kind = ReferenceMembers if reference else Ensemble
    step = kind.step

    def killed(self: Any, update: int) -> Any:
        if update == killed_at:
            raise KeyboardInterrupt
        return step(self, update)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kind, "step", killed)
        run(tmp_path / "cut", settings, dev_lm=PickyModel())
    place = tmp_path / "cut/member_00"
    place.mkdir(exist_ok=True)
    with (place / "log.jsonl").open("a") as file:
        file.write('{"update": 7, "gener')  # the kill came in the middle of a line
    found = run(tmp_path / "cut", settings, dev_lm=PickyModel(), resume=True)

    assert [result.member for result in found] == [0, 1, 2], "one gave way to another"
    for one, other in zip(found, expected, strict=True):
        assert one.update == other.update
        assert one.score == other.score
        assert torch.equal(weights(one.generator), weights(other.generator))
        assert log(tmp_path / "cut", one.member) == log(tmp_path / "whole", one.member)
    pair = [load_checkpoint(tmp_path / folder / CHECKPOINT_NAME) for folder in ("cut", "whole")]
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
    step = Ensemble.step

    def poisoned(self: Ensemble, update: int) -> Any:
        if update == 5:
            self._generators["conv.weight"][0] = math.nan
        return step(self, update)

    monkeypatch.setattr(Ensemble, "step", poisoned)
    with caplog.at_level(logging.WARNING):
        results = run(tmp_path / "a", config(seeds=2))
    assert [result.member for result in results] == [1]
    assert "member 00 is dropped" in caplog.text
    assert json.loads((tmp_path / "a/member_00/dropped.json").read_text())["update"] == 6
    monkeypatch.undo()
    assert [r.member for r in run(tmp_path / "a", config(seeds=2), resume=True)] == [1]
    whole = run(tmp_path / "b", config(seeds=2))
    # Not to the last bit: rows are as long as the longest member's, and sums take another order.
    torch.testing.assert_close(
        weights(results[0].generator), weights(whole[1].generator), rtol=1e-5, atol=1e-6
    )


def test_no_finite_member_is_the_users_matter(tmp_path: Path) -> None:
    bad = PlantedSegments(
        [np.full((5, 8), np.nan, dtype=np.float32)], [np.zeros(5, dtype=np.int64)], ["train"]
    )
    with pytest.raises(UserError, match="no restart stayed finite"):
        train_gan(tmp_path, bad, PLANTED.text, config(seeds=2))


def test_discriminators_begin_anew_and_generators_go_on() -> None:
    settings = config(discriminator_reset_every=6, start_discriminator_updates=2)
    members = members_of(settings, [0, 1])
    for update in range(6):
        members.step(update)
    before = load_copy(members.state())
    members.step(6)
    after = members.state()
    assert same(before["generators"], after["generators"])
    # An update moves no weight by more than a few hundredths; a new beginning moves most by more.
    moved = (before["discriminators"][0] - after["discriminators"][0]).abs()
    assert float(moved.median()) > 0.05
    assert after["discriminator_optimizer"]["steps"].tolist() == [1, 1]
    assert not torch.equal(after["discriminators"][0][0], after["discriminators"][0][1])


def test_discriminators_hear_earlier_generators_and_generators_learn_from_those_of_now() -> None:
    """A replay of states that say nothing changes what discriminators learn, and not who learns."""
    plain = members_of(config(), [0])
    replayed = members_of(config(replay=1.0, replay_every=100), [0])  # of update 0, for ever
    for update in range(2):
        plain.step(update)
        replayed.step(update)
    first, second = (load_copy(members.state()) for members in (plain, replayed))
    assert same(first["generators"], second["generators"])
    assert not same(first["discriminators"], second["discriminators"])
    replayed.step(2)
    assert not same(second["generators"], replayed.state()["generators"])
    assert same(second["discriminators"], replayed.state()["discriminators"])


def test_the_clusters_are_learned_and_leave_the_generator() -> None:
    settings = config(
        generator_residual=True, auxiliary=5.0, auxiliary_codes=5, generator_lr=0.01, updates=60
    )
    members = members_of(settings, [0])
    losses = [members.step(update).get("generator_auxiliary") for update in range(60)]
    told = [float(loss[0]) for loss in losses if loss is not None]
    assert len(told) == 30, "generators alone are asked"
    assert told[0] == pytest.approx(5 * math.log(5), rel=0.2), "five clusters, and a weight of 5"
    assert min(told[-5:]) < 0.6 * told[0]
    rebuilt = rebuild_generator(settings.gan, 8, V, members.generator_state(0))
    assert type(rebuilt) is Generator
    assert not [name for name in rebuilt.state_dict() if name.startswith("codes")]


def test_without_codes_there_is_nothing_to_tell() -> None:
    settings = config(generator_residual=True, auxiliary=0.5)
    with pytest.raises(ValueError, match="no codes"):
        Feed(PLANTED.segments, PLANTED.text, settings.gan, 0)


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
    for reference, hidden in ((False, 0), (True, 0), (False, 6), (True, 6)):
        start = Generator(8, V, kernel=4, hidden=hidden)
        slow = config(
            updates=8,
            generator_lr=1e-9,
            start_discriminator_updates=3,
            reference=reference,
            generator_hidden=hidden,
        )
        (result,) = run(tmp_path, slow, start=start.state_dict())
        torch.testing.assert_close(weights(result.generator), weights(start))
    with pytest.raises(UserError, match="generator_kernel"):
        run(tmp_path, config(generator_kernel=1), start=start.state_dict())


def test_each_update_moves_one_of_the_two_networks() -> None:
    members = members_of(config(), [0, 1])
    for update, side in ((0, "generators"), (1, "discriminators")):
        before = load_copy(members.state())
        members.step(update)
        after = members.state()
        other = {"generators": "discriminators", "discriminators": "generators"}[side]
        assert same(before[other], after[other])
        assert not same(before[side], after[side])


def load_copy(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: load_copy(value) for key, value in state.items()}
    return [load_copy(value) for value in state] if isinstance(state, list) else state


def test_the_reference_has_four_more_outputs_but_says_only_phones(tmp_path: Path) -> None:
    settings = config(reference=True)
    feed = Feed(PLANTED.segments, PLANTED.text, settings.gan, 0)
    turns = Turns(settings.gan, started=False)
    member = ReferenceMember(0, feed, settings.gan, torch.device("cpu"), None, turns)
    assert member.generator.settings["n_phones"] == V + 4
    with torch.no_grad():
        member.generator.conv.weight[V:] *= 50.0  # specials win almost everywhere
    said = np.concatenate(member.candidate().hypotheses)
    assert (said < V).all()
    assert (said > 0).all()
    (result,) = run(tmp_path, settings)
    assert result.generator.settings["n_phones"] == V
    real = member.real(0)
    assert real.values[~real.mask].argmax(-1).unique().tolist() == [V + 1]
    assert float(real.values.sum(-1).min()) == 1.0


@pytest.mark.parametrize("segmenter", ["none", "random", "uniform", "uniform_join", "join"])
def test_every_segmenter_trains(tmp_path: Path, segmenter: str) -> None:
    (result,) = run(tmp_path, config(segmenter=segmenter, updates=4))
    assert len(result.candidate.hypotheses) == 4


# --- who goes on ---


def test_the_worse_half_gives_way_to_new_members(tmp_path: Path) -> None:
    settings = config(seeds=4, reviews=(0.4, 0.7), patience=0)
    results = run(tmp_path, settings, dev_lm=PickyModel())
    # Two of four at update 4, and two of the four then at update 8.
    assert [result.member for result in results] == list(range(8))
    lives = {n: [row["update"] for row in log(tmp_path, n)] for n in range(8)}
    ended = [n for n in range(8) if lives[n][-1] < 12]
    assert sorted(lives[n][-1] for n in ended) == [4, 4, 8, 8]
    assert all(lives[n][0] == 6 for n in (4, 5))
    assert all(lives[n][0] == 10 for n in (6, 7))
    scored = {n: next(row for row in log(tmp_path, n) if row["update"] == 4) for n in range(4)}

    def anchor(number: int) -> float:
        row = scored[number]
        return math.log(row["lm_ppl"]) - math.log(row["usage"])

    gone = {n for n in range(4) if lives[n][-1] == 4}
    assert gone == set(sorted(range(4), key=anchor)[2:])


@pytest.mark.parametrize("reference", [False, True])
def test_every_second_member_begins_from_a_start(tmp_path: Path, reference: bool) -> None:
    """Those that come in the place of others begin from nothing, whatever their number."""
    start = Generator(8, V, kernel=4)
    slow = config(
        seeds=4,
        reviews=(0.4,),
        generator_lr=1e-9,
        start_discriminator_updates=0,
        reference=reference,
    )
    results = run(tmp_path, slow, dev_lm=PickyModel(), start=start.state_dict())
    assert reference or {result.member for result in results} >= {0, 1, 2, 3, 4}
    started = {
        result.member
        for result in results
        if torch.allclose(weights(result.generator), weights(start), atol=1e-5)
    }
    assert started == {0, 2}


def test_members_of_the_reference_take_the_same_turns_whether_started_or_not(
    tmp_path: Path,
) -> None:
    start = Generator(8, V, kernel=4).state_dict()
    settings = config(seeds=2, start_discriminator_updates=3, reference=True)
    results = run(tmp_path, settings, start=start)
    assert {result.member for result in results} == {0, 1}


def test_only_first_members_begin_from_a_start() -> None:
    start = Generator(8, V, kernel=4).state_dict()
    begun = [start_of(start, number, first={0, 1, 2, 3}) for number in range(6)]
    assert [each is not None for each in begun] == [True, False, True, False, False, False]
    assert start_of(None, 0, first={0}) is None


def test_training_ends_when_nothing_gets_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(updates=100, checkpoint_every=2, patience=3, generator_lr=1e-12)
    run(tmp_path, settings, dev_lm=PickyModel())
    assert log(tmp_path)[-1]["update"] == 8, "one checkpoint, and three no better"
    again = Training(tmp_path, PLANTED.segments, PLANTED.text, settings, PickyModel(), None)
    monkeypatch.setattr(Ensemble, "step", lambda self, update: pytest.fail("has ended"))
    again.run(resume=True)
    assert len(again.results()) == 1


def test_a_single_utterance_is_enough_to_train_on(tmp_path: Path) -> None:
    alone = PlantedSegments([PLANTED.segments.vectors(0)], [PLANTED.segments.labels(0)], ["train"])
    results = train_gan(tmp_path, alone, PLANTED.text, config(seeds=2), PickyModel())
    assert all(np.isfinite(weights(result.generator)).all() for result in results)
    assert all(len(result.candidate.hypotheses) == 1 for result in results)
