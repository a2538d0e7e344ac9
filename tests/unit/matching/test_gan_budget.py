"""Which members go on, and when the training ends."""

from __future__ import annotations

import pytest

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.gan.budget import Standing, hopeless, improvement_ended, reviews
from wav2vec_u.matching.selection import Score

TEXT = 2.0  # nats a phone


def standing(slot: int, nll: float, disagreement: float | None = 90.0) -> Standing:
    return Standing(slot, slot + 10, Score(nll=nll, usage=1.0, log_prob=0.0), TEXT, disagreement)


def test_reviews_are_at_checkpoints_inside_the_training() -> None:
    config = GanConfig(updates=1_000, checkpoint_every=100, reviews=(0.5, 0.24, 0.01, 0.99))
    assert reviews(config) == [200, 500]
    assert reviews(GanConfig(reviews=())) == []


def test_the_worse_half_is_hopeless() -> None:
    members = [standing(0, 5.0), standing(1, 3.0), standing(2, 4.0), standing(3, 6.0)]
    assert sorted(hopeless(members)) == [0, 3]
    assert hopeless(members[:3]) == [0], "the one in the middle stays"
    assert hopeless(members[:1]) == []
    assert hopeless([]) == []


def test_who_has_taken_off_stays() -> None:
    like_text = standing(3, TEXT + 0.4)
    agreeing = standing(0, 5.0, disagreement=20.0)
    assert like_text.taken_off
    assert agreeing.taken_off
    assert not standing(1, 5.0).taken_off
    assert not standing(1, 5.0, disagreement=None).taken_off, "alone, it agrees with nobody"
    few_phones = Standing(0, 0, Score(nll=TEXT, usage=0.3, log_prob=0.0), TEXT, None)
    assert not few_phones.taken_off, "fluent, with a third of the phones"
    better = [standing(4, 1.0), standing(5, 1.1)]
    assert hopeless([like_text, agreeing, *better]) == []


@pytest.mark.parametrize(
    ("history", "ended"),
    [
        ([], False),
        ([5.0, 5.0], False),
        ([5.0, 5.0, 5.0], True),
        ([5.0, 4.0, 3.999], False),
        ([5.0, 4.0, 4.0, 4.0], True),
        ([5.0, 4.0, 3.999, 3.998], True),
        ([5.0, 4.0, 4.5, 3.9], False),
    ],
)
def test_the_end_of_improvement(history: list[float], ended: bool) -> None:
    assert improvement_ended(history, patience=2) is ended
    assert not improvement_ended(history, patience=0)
