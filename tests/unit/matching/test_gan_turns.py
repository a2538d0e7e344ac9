"""Whose turn it is, update by update."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.gan.turns import Turns


def order(updates: int, started: bool = False, **settings: Any) -> str:
    """One letter an update: w(arm-up), g(enerator), d(iscriminator), R for one that begins anew."""
    turns = Turns(GanConfig(**settings), started)
    letters = []
    for update in range(updates):
        if turns.resets(update):
            assert turns.of_discriminator(update)
            letters.append("R")
        elif turns.of_discriminator(update):
            letters.append("d")
        else:
            letters.append("w" if turns.warms_up(update) else "g")
    return "".join(letters)


def test_updates_alternate_and_the_generator_is_first() -> None:
    assert order(6) == "gdgdgd"


def test_beside_a_given_generator_the_discriminator_learns_alone_first() -> None:
    assert order(7, started=True, start_discriminator_updates=4) == "ddddgdg"
    assert order(4, started=True, start_discriminator_updates=0) == "gdgd"


def test_after_the_warm_up_too() -> None:
    found = order(9, warm_up_updates=3, start_discriminator_updates=2)
    assert found == "wwwdddgdg"  # update 5 is odd, and a discriminator's anyway


def test_after_every_reset() -> None:
    found = order(14, discriminator_reset_every=6, start_discriminator_updates=2)
    assert found == "gdgdgdRdgdgdRd"
    late = order(12, warm_up_updates=2, discriminator_reset_every=4, start_discriminator_updates=1)
    assert late == "wwddgdRdgdRd"


def test_without_a_game_all_updates_are_the_generators() -> None:
    assert order(5, started=True, objective="statistics", discriminator_reset_every=300) == "ggggg"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "statistics", "skipgrams": 0.0, "positions": 0.0}, "no statistics to match"),
        ({"warm_up_updates": 5, "skipgrams": 0.0, "positions": 0.0}, "no statistics to match"),
        ({"auxiliary": 0.5}, "generator_residual"),
        ({"auxiliary": 0.5, "generator_residual": True, "segmenter": "random"}, "whole segments"),
        ({"discriminator_reset_every": 200}, "more than start_discriminator_updates"),
        ({"reference": True, "objective": "relativistic"}, "published code"),
        ({"reference": True, "replay": 0.1}, "published code"),
        ({"reference": True, "discriminator_reset_every": 500}, "published code"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GanConfig(**settings)
    GanConfig(objective="statistics", skipgrams=0.0, positions=1.0)
