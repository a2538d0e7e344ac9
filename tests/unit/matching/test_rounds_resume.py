"""Rounds and their stage after a kill or another run, and what seeds and restarts decide."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from same_weights import same_weights
from two_voice_rounds import TINY, BothVoices, generator_of, matching
from two_voice_studio import Studio, selection_of

from wav2vec_u.matching import rounds, stage
from wav2vec_u.matching.rounds import GENERATOR_NAME

# -- seeds and restarts


def test_the_same_seed_learns_the_same_and_another_seed_something_else(
    made: BothVoices, tmp_path: Path
) -> None:
    (first,) = made.learn(tmp_path / "first", matching(**TINY))
    torch.manual_seed(99)
    (again,) = made.learn(tmp_path / "again", matching(**TINY))
    (other,) = made.learn(tmp_path / "other", matching(seed=1, **TINY))
    assert same_weights(first.generator, again.generator)
    assert first.gain == again.gain
    assert not same_weights(first.generator, other.generator)


def test_restarts_differ_and_do_not_depend_on_each_other(made: BothVoices, tmp_path: Path) -> None:
    both = made.learn(tmp_path / "both", matching(seeds=2, **TINY))
    (alone,) = made.learn(tmp_path / "alone", matching(seeds=1, **TINY))
    assert [heard.member for heard in both] == [0, 1]
    assert same_weights(both[0].generator, alone.generator)
    assert not same_weights(both[0].generator, both[1].generator)


# -- interruptions


def test_a_round_that_was_killed_while_it_was_written_down_is_done_again(
    made: BothVoices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = made.learn(tmp_path / "whole", matching(**TINY))
    save = np.save

    def killed(path: Path, labels: NDArray[np.int32]) -> None:
        if path.parent.name == "round_01":
            raise KeyboardInterrupt
        save(path, labels)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rounds.np, "save", killed)
        made.learn(tmp_path / "cut", matching(**TINY))
    assert (tmp_path / "cut/member_00/round_01" / GENERATOR_NAME).exists()
    (found,) = made.learn(tmp_path / "cut", matching(**TINY), resume=True)
    assert same_weights(found.generator, whole.generator)
    assert found.gain == whole.gain


def test_a_stage_that_was_killed_after_a_round_goes_on_with_the_next(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = matching(seeds=2, **TINY)
    studio.run(tmp_path / "whole", config)
    teach, taught = rounds.teach, SimpleNamespace(times=0, limit=2)

    def counted(*arguments: Any, **named: Any) -> float:
        if taught.times == taught.limit:
            raise KeyboardInterrupt
        taught.times += 1
        return teach(*arguments, **named)

    monkeypatch.setattr(rounds, "teach", counted)
    studio.calls.clear()
    with pytest.raises(KeyboardInterrupt):
        studio.run(tmp_path / "cut", config)
    assert (tmp_path / "cut/synthetic").exists()
    assert not (tmp_path / "cut" / GENERATOR_NAME).exists()
    taught.times, taught.limit = 0, 100
    studio.run(tmp_path / "cut", config, resumed=True)
    assert taught.times == 4, "one round of the first restart, three of the second"
    assert len(studio.calls) == 1, "what was said is not said again"
    assert selection_of(tmp_path / "cut") == selection_of(tmp_path / "whole")
    for place in (".", "member_00/round_02", "member_01/round_02"):
        assert same_weights(
            generator_of(tmp_path / "cut" / place), generator_of(tmp_path / "whole" / place)
        )
    logs = [tmp_path / name / "member_00/log.jsonl" for name in ("cut", "whole")]
    assert logs[0].read_text() == logs[1].read_text()
    for path in (tmp_path / "whole/synthetic").iterdir():
        assert (tmp_path / "cut/synthetic" / path.name).read_bytes() == path.read_bytes()


def test_a_stage_that_was_killed_while_speaking_speaks_again(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = matching(**TINY)
    studio.run(tmp_path / "whole", config)

    def killed(folder: Path, *_: Any) -> None:
        folder.mkdir()
        (folder / "index.jsonl").write_text('{"id"', encoding="utf-8")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage, "write_synthetic", killed)
        studio.run(tmp_path / "cut", config)
    studio.calls.clear()
    studio.run(tmp_path / "cut", config, resumed=True)
    assert len(studio.calls) == 1
    assert same_weights(generator_of(tmp_path / "cut"), generator_of(tmp_path / "whole"))


# -- what another run has left


def test_a_stage_that_starts_afresh_trusts_nothing_that_lies_there(
    studio: Studio, tmp_path: Path
) -> None:
    studio.run(tmp_path / "out", matching(seed=1, **TINY))
    studio.run(tmp_path / "out", matching(**TINY))
    studio.run(tmp_path / "clean", matching(**TINY))
    assert same_weights(generator_of(tmp_path / "out"), generator_of(tmp_path / "clean"))
