"""What a round is taught, and which recordings are learned from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_run import write_segments
from round_folders import labels_of, place_of
from two_voice_rounds import REAL, TINY, TRAIN, VOICES, BothVoices, generator_of, hmm_of, matching

from wav2vec_u.matching import rounds
from wav2vec_u.matching.frame_teacher import UNKNOWN, Lesson
from wav2vec_u.matching.generator import Generator
from wav2vec_u.matching.rounds import learning_utterances, log_probs
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.testing.planted import PlantedSegments

# -- what a round is made of


def spied(
    made: BothVoices, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> list[tuple[list[Lesson], int]]:
    """Lessons and epochs of every round."""
    seen: list[tuple[list[Lesson], int]] = []
    teach = rounds.teach

    def spy(generator: Generator, lessons: Sequence[Lesson], **named: Any) -> float:
        seen.append((list(lessons), named["epochs"]))
        return teach(generator, lessons, **named)

    monkeypatch.setattr(rounds, "teach", spy)
    made.learn(folder, matching(**{**TINY, **settings}))
    return seen


def test_the_first_round_hears_all_synthetic_speech_and_no_recording(
    made: BothVoices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((lessons, epochs),) = spied(made, tmp_path, monkeypatch, rounds=0)
    assert epochs == TINY["start_epochs"]
    assert len(lessons) == len(made.synthetic)
    for i, lesson in enumerate(lessons):
        np.testing.assert_array_equal(lesson.vectors(), made.synthetic.vectors(i))
        np.testing.assert_array_equal(lesson.labels, VOICES.synthetic.labels(i))


def test_later_rounds_hear_a_share_of_it_beside_the_labels_of_the_round_before(
    made: BothVoices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spied(made, tmp_path, monkeypatch, synthetic_share=0.3)
    first = {made.synthetic.vectors(i).tobytes(): i for i in range(len(made.synthetic))}
    drawn = []
    for number, (lessons, epochs) in enumerate(seen[1:], start=1):
        assert epochs == TINY["epochs"]
        kept = round(0.3 * len(made.synthetic))
        held = [first[lesson.vectors().tobytes()] for lesson in lessons[:kept]]
        for i, lesson in zip(held, lessons, strict=False):
            np.testing.assert_array_equal(lesson.labels, VOICES.synthetic.labels(i))
        assert len(set(held)) == kept
        drawn.append(held)
        real = lessons[kept:]
        for i, lesson in zip(TRAIN, real, strict=True):
            np.testing.assert_array_equal(lesson.vectors(), made.real.vectors(i))
            assert len(lesson.labels) == made.real.length(i)
        before = labels_of(tmp_path / "member_00", number - 1)
        np.testing.assert_array_equal(np.concatenate([lesson.labels for lesson in real]), before)
    assert len(drawn) == 2
    assert drawn[0] != drawn[1], "each round draws its own"


def test_a_label_is_the_best_phone_where_its_posterior_is_above_sure(
    made: BothVoices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "BLOCK_SEGMENTS", 500)  # several blocks
    made.learn(tmp_path, matching(**{**TINY, "rounds": 0, "sure": 0.9}))
    place = place_of(tmp_path / "member_00", 0)
    generator, hmm = generator_of(place), hmm_of(place)
    wanted = []
    for i in TRAIN:
        (posteriors,) = hmm.read([log_probs(generator, made.real.vectors(i))], threads=1).posteriors
        sure = posteriors.max(axis=1) > 0.9
        wanted.append(np.where(sure, posteriors.argmax(axis=1), UNKNOWN))
    labels = labels_of(tmp_path / "member_00", 0)
    assert 0.1 < (labels == UNKNOWN).mean() < 0.9
    # A posterior at the bound may round to either side in another batch.
    assert (labels == np.concatenate(wanted)).mean() > 0.999


# -- a loss that is no number


@pytest.mark.parametrize("number", [0, 1])
def test_a_loss_that_is_no_number_is_told_with_its_round(
    made: BothVoices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    taught = 0

    def diverges(*_: Any, **__: Any) -> float:
        nonlocal taught
        taught += 1
        return float("nan") if taught == number + 1 else 1.0

    monkeypatch.setattr(rounds, "teach", diverges)
    with pytest.raises(
        UserError, match=rf"round {number} the loss .*lower matching\.synthetic\.learning_rate"
    ):
        made.learn(tmp_path, matching(**TINY))
    done = [path.parent.name for path in sorted(tmp_path.rglob("figures.json"))]
    assert done == [f"round_{n:02d}" for n in range(number)]


def test_a_learning_rate_that_is_far_too_high_is_told(made: BothVoices, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="in round 0 the loss is no longer a number"):
        made.learn(tmp_path, matching(**{**TINY, "learning_rate": 1e30}))


# -- what is learned from


def seconds_of(store: SegmentStore, i: int) -> float:
    times = store.times(i)
    return float((times[:, 1] - times[:, 0]).sum())


def test_no_more_seconds_are_learned_from_than_allowed_and_none_of_the_test(
    made: BothVoices,
) -> None:
    seconds = {i: seconds_of(made.real, i) for i in range(len(made.real))}
    most = 0.4 * sum(seconds[i] for i in TRAIN)
    chosen = learning_utterances(made.real, most, seed=0)
    assert chosen == sorted(set(chosen))
    assert set(chosen) < set(TRAIN)
    # As much as there is room for: the next one drawn would have been too long.
    assert most - max(seconds.values()) < sum(seconds[i] for i in chosen) <= most
    assert chosen == learning_utterances(made.real, most, seed=0)
    assert chosen != learning_utterances(made.real, most, seed=1)
    assert learning_utterances(made.real, 1e9, seed=0) == TRAIN


def test_one_utterance_is_learned_from_even_if_it_is_too_long(made: BothVoices) -> None:
    (alone,) = learning_utterances(made.real, 0.01, seed=0)
    assert alone in TRAIN


def test_without_a_training_split_there_is_nothing_to_learn_from(tmp_path: Path) -> None:
    held_out = PlantedSegments([REAL.vectors(0)], [REAL.labels(0)], ["test"])
    store = SegmentStore(write_segments(tmp_path / "held_out", held_out))
    with pytest.raises(UserError, match="split `train`"):
        learning_utterances(store, 3600, seed=0)
