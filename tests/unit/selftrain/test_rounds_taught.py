"""What a round teaches its mixtures and its generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from half_understood import tiny
from round_folders import labels_of
from same_weights import same_weights
from voice_learner import FEW, Learner, model_of

from wav2vec_u.matching.frame_hmm import FrameHmm, mean_probabilities
from wav2vec_u.matching.frame_teacher import UNKNOWN, Lesson
from wav2vec_u.matching.generator import Generator, log_probs
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.selftrain import rounds
from wav2vec_u.selftrain.rounds import FIGURES_NAME

# --- mixtures ---


def test_mixtures_are_fitted_to_recordings_and_the_labels_of_the_round_before(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    fitted = []

    class Spy(rounds.Mixtures):  # type: ignore[misc]
        def fit(self, utterances: Callable[[], Iterable[Any]], n_phones: int) -> Any:
            fitted.append((list(utterances()), n_phones, self.seed))
            return super().fit(utterances, n_phones)

    monkeypatch.setattr(rounds, "Mixtures", Spy)
    learner.quick(tmp_path, config=tiny(sure=0.7)).run(resume=False)
    assert len(fitted) == 3
    assert len({seed for _, _, seed in fitted}) == 3
    for heard, n_phones, _ in fitted:
        assert n_phones == learner.made.start.settings["n_phones"]
        for (vectors, labels), i in zip(heard, learner.few, strict=True):
            np.testing.assert_array_equal(vectors, learner.made.store.vectors(i))
            assert len(labels) == len(vectors)
    labels = [np.concatenate([own for _, own in heard]) for heard, _, _ in fitted]
    for number in (1, 2):
        np.testing.assert_array_equal(labels[number], labels_of(tmp_path, number - 1))
    # At first, what the matching's generator alone is sure of, as the phone trigram reads it.
    said = [log_probs(learner.made.start, learner.made.store.vectors(i)) for i in learner.few]
    alone = FrameHmm(learner.language, mean_probabilities(said), power=1.0, stay=0.7)
    posteriors = np.concatenate(alone.read(said, threads=1).posteriors)
    sure = posteriors.max(axis=1) > 0.7
    expected = np.where(sure, posteriors.argmax(axis=1), UNKNOWN)
    assert 0.02 < (expected == UNKNOWN).mean() < 0.8
    assert (labels[0] == expected).mean() > 0.999


# --- the generator ---


@dataclass(frozen=True)
class Taught:
    """One call of `teach`."""

    generator: Generator  # as it was before
    lessons: list[Lesson]
    options: dict[str, Any]


def spied(
    learner: Learner, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> list[Taught]:
    """All that is taught in two rounds."""
    seen: list[Taught] = []
    teach = rounds.teach

    def spy(generator: Generator, lessons: Sequence[Lesson], **named: Any) -> float:
        seen.append(Taught(generator.only(generator.settings["n_phones"]), list(lessons), named))
        return teach(generator, lessons, **named)

    monkeypatch.setattr(rounds, "teach", spy)
    learner.quick(folder, **options).run(resume=False)
    return seen


@pytest.mark.parametrize(("share", "synthetic"), [(0.0, 0), (0.3, 12), (1.0, 40)])
def test_a_share_of_the_synthetic_speech_is_heard_beside_the_recordings(
    learner: Learner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hurried: None,
    share: float,
    synthetic: int,
) -> None:
    seen = spied(learner, tmp_path, monkeypatch, config=tiny(synthetic_share=share))
    assert len(seen) == 2, "nothing is taught in round 0"
    said = learner.made.said
    number_of = {said.vectors(i).tobytes(): i for i in range(len(said))}
    drawn = []
    for number, taught in enumerate(seen):
        real, beside = taught.lessons[:FEW], taught.lessons[FEW:]
        for lesson, i in zip(real, learner.few, strict=True):
            np.testing.assert_array_equal(lesson.vectors(), learner.made.store.vectors(i))
        np.testing.assert_array_equal(
            np.concatenate([lesson.labels for lesson in real]), labels_of(tmp_path, number)
        )
        held = [number_of[lesson.vectors().tobytes()] for lesson in beside]
        for lesson, i in zip(beside, held, strict=True):
            np.testing.assert_array_equal(lesson.labels, learner.made.synthetic.labels(i))
        assert len(set(held)) == len(held) == synthetic
        drawn.append(held)
    assert (drawn[0] != drawn[1]) == (share == 0.3), "each round draws its own"


def test_without_synthetic_speech_recordings_are_heard_alone(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    seen = spied(learner, tmp_path, monkeypatch, synthetic=False)
    assert [len(taught.lessons) for taught in seen] == [FEW, FEW]


def test_settings_of_the_optimiser_reach_the_teacher(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    monkeypatch.setattr(rounds, "LEAST_UPDATES", 7)
    config = tiny(epochs=3, learning_rate=0.004, weight_decay=0.2)
    first, second = spied(learner, tmp_path, monkeypatch, config=config)
    for taught in (first, second):
        options = dict(taught.options)
        options.pop("seed")
        assert options == {
            "epochs": 3,
            "learning_rate": 0.004,
            "weight_decay": 0.2,
            "least_updates": 7,
        }
    assert first.options["seed"] != second.options["seed"]


def test_every_round_starts_from_fresh_weights_of_the_same_shape(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    first, second = spied(learner, tmp_path, monkeypatch)
    start = learner.made.start
    assert first.generator.settings == second.generator.settings == start.settings
    assert not same_weights(first.generator, start)
    assert not same_weights(first.generator, second.generator)
    assert not same_weights(second.generator, model_of(tmp_path, 1).generator)


@pytest.mark.parametrize("number", [1, 2])
def test_a_loss_that_is_no_number_is_told_with_its_round(
    learner: Learner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hurried: None,
    number: int,
) -> None:
    losses = [1.0] * (number - 1) + [math.nan]
    teach = rounds.teach

    def diverges(*arguments: Any, **named: Any) -> float:
        teach(*arguments, **named)
        return losses.pop(0)

    monkeypatch.setattr(rounds, "teach", diverges)
    with pytest.raises(
        UserError, match=rf"in round {number} the loss .*lower selftrain\.learning_rate"
    ):
        learner.quick(tmp_path).run(resume=False)
    done = [path.parent.name for path in sorted(tmp_path.rglob(FIGURES_NAME))]
    assert done == [f"round_{n:02d}" for n in range(number)]
