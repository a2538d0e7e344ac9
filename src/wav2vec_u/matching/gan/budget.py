"""Who goes on training: take-off, members that give way to new ones, and the end.

A member learns nothing for long, and then suddenly takes off, or never does. Nobody's transcripts
are needed to tell. There is one language and any number of private codes, so members that say the
same have found it; and what a member says after its take-off is about as likely as text, phone by
phone, while all phones are in use.
"""

from __future__ import annotations

from dataclasses import dataclass

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.agreement import CONVERGED_BELOW
from wav2vec_u.matching.selection import Score

LEAST_GAIN = 0.005  # nats a phone; less is no improvement
TAKEN_OFF = 0.5  # nats a phone above text, usage counted in


@dataclass(frozen=True)
class Standing:
    """How a member does at a checkpoint.

    Attributes
    ----------
    slot, number : int
        Its place among those that train, and its name.
    score : Score
    text_nll : float
        Nats a phone that the language model needs for text.
    disagreement : float or None
        With the member nearest to it, percent (`agreement.disagreements`); None if it is alone.
    """

    slot: int
    number: int
    score: Score
    text_nll: float
    disagreement: float | None

    @property
    def taken_off(self) -> bool:
        """Whether it has found the language, as far as can be told."""
        agrees = self.disagreement is not None and self.disagreement < CONVERGED_BELOW
        return agrees or bool(self.score.anchor < self.text_nll + TAKEN_OFF)


def reviews(config: GanConfig) -> list[int]:
    """Return the updates after which members may give way: checkpoints near the given shares."""
    every = config.checkpoint_every
    found = {round(share * config.updates / every) * every for share in config.reviews}
    return sorted(update for update in found if 0 < update < config.updates)


def hopeless(standings: list[Standing]) -> list[int]:
    """Return the slots of the worse half, less those that have taken off.

    With one member alone there is no half, and it stays.
    """
    ranked = sorted(standings, key=lambda each: each.score.anchor)
    worse = ranked[(len(ranked) + 1) // 2 :]
    return [each.slot for each in worse if not each.taken_off]


def improvement_ended(history: list[float], patience: int) -> bool:
    """Tell whether the best anchor has not fallen for `patience` checkpoints; 0: never.

    >>> improvement_ended([4.0, 3.0, 3.0, 3.0], patience=2)
    True
    >>> improvement_ended([4.0, 3.0, 3.0, 2.9], patience=2)
    False
    """
    if patience == 0 or len(history) <= patience:
        return False
    before, lately = min(history[:-patience]), min(history[-patience:])
    return lately > before - LEAST_GAIN
