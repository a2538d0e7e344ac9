"""How many rounds there are and which is kept, and how a training that was killed goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from half_understood import tell_gains, tiny
from numpy.typing import NDArray
from round_folders import labels_of, place_of
from same_weights import same_weights
from voice_learner import Learner, model_of, same_model

from wav2vec_u.matching.generator import GENERATOR_NAME
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.selftrain import rounds
from wav2vec_u.selftrain.rounds import LABELS_NAME

# --- how many rounds, and which is best ---


@pytest.mark.parametrize(
    ("gains", "done", "best"),
    [
        ([1.0, 2.0, 1.5, 9.0], 3, 1),
        ([1.0, 0.5, 0.4, 9.0], 3, 1),
        ([1.0, 0.5, 0.6, 0.7], 4, 3),
        ([1.0, 2.0, 2.0, 3.0], 4, 3),
        ([1.0, 2.0, 2.0, 2.0], 4, 1),
        ([-3.0, -2.0, -2.5, 9.0], 3, 1),
    ],
    ids=[
        "falls",
        "falls at once",
        "rises below the matching's",
        "stands still and rises",
        "stands still",
        "below zero",
    ],
)
def test_rounds_end_when_the_gain_falls_and_the_best_is_kept(
    learner: Learner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hurried: None,
    gains: list[float],
    done: int,
    best: int,
) -> None:
    tell_gains(monkeypatch, gains)
    training = learner.quick(tmp_path, config=tiny(rounds=3))
    model = training.run(resume=False)
    assert sorted(path.name for path in tmp_path.glob("round_*")) == [
        f"round_{number:02d}" for number in range(done)
    ]
    assert same_model(model, model_of(tmp_path, best))
    for other in set(range(done)) - {best}:
        assert not same_model(model, model_of(tmp_path, other))
    assert training.summary() == {"rounds": done - 1, "best_round": best, "gain": gains[best]}
    rows = list(read_jsonl(tmp_path / "log.jsonl"))
    assert [(row["round"], row["gain"]) for row in rows] == list(enumerate(gains[:done]))


def test_without_rounds_mixtures_alone_are_added(learner: Learner, tmp_path: Path) -> None:
    training = learner.quick(tmp_path, config=tiny(rounds=0))
    model = training.run(resume=False)
    assert same_weights(model.generator, learner.made.start)
    assert model.mixtures is not None
    assert training.summary()["rounds"] == 0
    assert "stopped" not in training.summary()


# --- seeds and interruptions ---


def test_the_same_seed_learns_the_same_and_another_seed_something_else(
    learner: Learner, tmp_path: Path, hurried: None
) -> None:
    first = learner.quick(tmp_path / "first").run(resume=False)
    torch.manual_seed(99)
    again = learner.quick(tmp_path / "again").run(resume=False)
    learner.quick(tmp_path / "other", config=tiny(seed=1)).run(resume=False)
    assert same_model(first, again)
    for number in range(3):
        np.testing.assert_array_equal(
            labels_of(tmp_path / "first", number), labels_of(tmp_path / "again", number)
        )
    one, other = (model_of(tmp_path / name, 1) for name in ("first", "other"))
    assert not same_weights(one.generator, other.generator)


def killed_while_teaching(monkeypatch: pytest.MonkeyPatch, limit: int) -> list[int]:
    """Let the call of `teach` after so many be a kill; return where calls are counted."""
    teach, times = rounds.teach, [0]

    def counted(*arguments: Any, **named: Any) -> float:
        if times[0] == limit:
            raise KeyboardInterrupt
        times[0] += 1
        return teach(*arguments, **named)

    monkeypatch.setattr(rounds, "teach", counted)
    return times


def test_a_training_that_was_killed_goes_on_with_the_round_it_was_in(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = learner.quick(whole).run(resume=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed_while_teaching(patch, limit=1)
        learner.quick(cut).run(resume=False)
    finished = [*place_of(cut, 0).iterdir(), *place_of(cut, 1).iterdir()]
    written = [path.stat().st_mtime_ns for path in finished]
    times = killed_while_teaching(monkeypatch, limit=99)
    found = learner.quick(cut).run(resume=True)
    assert times == [1], "only the last round was left to do"
    assert [path.stat().st_mtime_ns for path in finished] == written
    assert same_model(found, expected)
    for number in range(3):
        np.testing.assert_array_equal(labels_of(cut, number), labels_of(whole, number))
        assert same_model(model_of(cut, number), model_of(whole, number))
    assert (cut / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()


def test_a_round_that_was_killed_while_it_was_written_down_is_done_again(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = learner.quick(whole).run(resume=False)
    save = np.save

    def killed(path: Path, labels: NDArray[np.int32]) -> None:
        if path.parent.name == "round_01":
            path.write_bytes(b"\x93NUM")
            raise KeyboardInterrupt
        save(path, labels)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rounds.np, "save", killed)
        learner.quick(cut).run(resume=False)
    assert (place_of(cut, 1) / GENERATOR_NAME).exists()
    found = learner.quick(cut).run(resume=True)
    assert same_model(found, expected)
    assert (cut / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()


def test_a_training_that_starts_afresh_trusts_nothing_that_lies_there(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    learner.quick(tmp_path, config=tiny(seed=1)).run(resume=False)
    times = killed_while_teaching(monkeypatch, limit=99)
    found = learner.quick(tmp_path).run(resume=False)
    assert times == [2]
    assert same_model(found, learner.quick(tmp_path / "clean").run(resume=False))


def _objects(path: Path) -> None:
    np.save(path, np.array([{"run": "me"}, None], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no labels at all"),
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: np.save(path, np.load(path)[:-1]),
        lambda path: np.save(path, np.int32(3)),
        _objects,
    ],
    ids=["missing", "empty", "nonsense", "cut off", "others", "a number", "objects"],
)
def test_damaged_labels_are_a_users_error(
    learner: Learner,
    tmp_path: Path,
    hurried: None,
    damage: Callable[[Path], object],
) -> None:
    learner.quick(tmp_path, config=tiny(rounds=0)).run(resume=False)
    damage(place_of(tmp_path, 0) / LABELS_NAME)
    with pytest.raises(UserError, match=r"labels\.npy: is damaged; remove .* and run again"):
        learner.quick(tmp_path).run(resume=True)
