"""A live table of the members, for people who watch."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

COLUMNS = ("lm_ppl", "usage", "perplexity", "generator_adversarial", "discriminator_fake")


class MembersTable:
    """Shows the last figures of every member on stderr; silent where that is no terminal.

    Parameters
    ----------
    updates : int
        Of the whole training.
    """

    def __init__(self, updates: int) -> None:
        self._updates = updates
        self._update = 0
        self._rows: dict[int, dict[str, Any]] = {}
        self._live: Live | None = None
        if sys.stderr.isatty():
            self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)

    def advance(self, update: int) -> None:
        """Note how far the training is."""
        self._update = update

    def show(self, number: int, figures: dict[str, Any]) -> None:
        """Show what is known of a member."""
        self._rows[number] = self._rows.get(number, {}) | figures
        if self._live is not None:
            self._live.update(self.drawn(), refresh=True)

    def end(self, number: int) -> None:
        """Take a member off the table."""
        self._rows.pop(number, None)

    def drawn(self) -> Table:
        """Return the table as it is now."""
        table = Table(title=f"update {self._update} of {self._updates}")
        for name in ("member", *COLUMNS, "taken off"):
            table.add_column(name.replace("_", " "), justify="right")
        for number, figures in sorted(self._rows.items()):
            cells = [f"{figures[name]:.3g}" if name in figures else "" for name in COLUMNS]
            table.add_row(str(number), *cells, "yes" if figures.get("taken_off") else "")
        return table

    def __enter__(self) -> MembersTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
