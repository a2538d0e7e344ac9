"""Earlier generators: which are kept, which come back, and when."""

from __future__ import annotations

import torch

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.gan.replay import STATES, Replay


def at(value: float) -> dict[str, torch.Tensor]:
    """Two members, whose weights tell the update they are of."""
    return {"conv.weight": torch.tensor([[value], [value + 0.5]])}


def walked(share: float, updates: int, every: int = 2) -> Replay:
    replay = Replay(at(0.0), GanConfig(replay=share, replay_every=every), seed=3)
    for update in range(updates):
        replay.keep(update, at(float(update)))
    return replay


def picked(replay: Replay, updates: int = 400) -> list[float | None]:
    found = [replay.pick(update) for update in range(updates)]
    return [None if state is None else float(state["conv.weight"][0]) for state in found]


def test_the_last_states_come_back_equally_often_and_none_else() -> None:
    found = picked(walked(1.0, updates=2 * STATES + 7))
    last = 2 * STATES + 6  # the update that was kept last: even ones are
    assert set(found) == {float(last - 2 * back) for back in range(STATES)}
    assert min(found.count(value) for value in set(found)) > 400 / STATES / 2


def test_as_often_as_was_asked_for() -> None:
    assert picked(walked(0.0, updates=9)).count(None) == 400
    assert 70 < 400 - picked(walked(0.25, updates=9)).count(None) < 130


def test_what_is_kept_does_not_change_with_the_generators() -> None:
    generators = at(0.0)
    replay = Replay(generators, GanConfig(replay=1.0, replay_every=1), seed=3)
    replay.keep(0, generators)
    generators["conv.weight"] += 100
    assert max(value for value in picked(replay) if value is not None) < 100


def test_a_new_member_has_no_past_of_another() -> None:
    replay = walked(1.0, updates=20)
    replay.replace(1, {"conv.weight": torch.tensor([-1.0]), "norm.mean": torch.zeros(3)})
    for update in range(50):
        state = replay.pick(update)
        assert state is not None
        assert float(state["conv.weight"][1]) == -1.0
        assert float(state["conv.weight"][0]) >= 0.0


def test_it_goes_on_from_a_checkpoint() -> None:
    replay, other = walked(0.5, updates=13), walked(0.5, updates=1)
    assert picked(replay) != picked(other)
    other.load(replay.state())
    assert picked(replay) == picked(other)
