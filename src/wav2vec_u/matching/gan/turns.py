"""Whose turn an update is: that of the generators or that of the discriminators."""

from __future__ import annotations

from wav2vec_u.config import GanConfig


class Turns:
    """The order of the updates, by their number alone.

    Updates alternate as in the reference: even ones are the generators', odd ones the
    discriminators'. Where a discriminator knows nothing beside a generator that does, it first
    learns alone, for ``start_discriminator_updates``: from a given generator, after the warm-up,
    and after every reset.

    Parameters
    ----------
    config : GanConfig
    started : bool
        Whether generators begin from a given one.
    """

    def __init__(self, config: GanConfig, started: bool) -> None:
        self._warm_up = config.warm_up_updates
        self._alone = config.start_discriminator_updates
        self._reset_every = config.discriminator_reset_every
        self._game = config.objective != "statistics"
        self._late_start = started or self._warm_up > 0

    def warms_up(self, update: int) -> bool:
        """Whether generators match the statistics of the text, and nothing else."""
        return update < self._warm_up

    def resets(self, update: int) -> bool:
        """Whether the discriminators begin anew before this update."""
        every = self._reset_every
        return self._game and every > 0 and update > self._warm_up and self._since(update) == 0

    def of_discriminator(self, update: int) -> bool:
        """Whether the discriminators learn in this update.

        >>> turns = Turns(GanConfig(start_discriminator_updates=3), started=True)
        >>> [turns.of_discriminator(update) for update in range(6)]
        [True, True, True, True, False, True]
        """
        if not self._game or self.warms_up(update):
            return False
        return update % 2 == 1 or self._learns_alone(update)

    def _learns_alone(self, update: int) -> bool:
        game = update - self._warm_up
        if self._late_start and game < self._alone:
            return True
        every = self._reset_every
        return every > 0 and game >= every and self._since(update) < self._alone

    def _since(self, update: int) -> int:
        """Count the updates since the discriminators last began."""
        return (update - self._warm_up) % self._reset_every
