"""What a check has found, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

Level = Literal["ok", "warn", "stop"]

_STYLES: dict[Level, str] = {"ok": "green", "warn": "yellow", "stop": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes
    ----------
    level : {"ok", "warn", "stop"}
        ``stop``: what comes after would be wasted.
    topic : str
        What was looked at.
    message : str
        What was found, with its figure.
    advice : str
        What to do; empty where all is well.
    """

    level: Level
    topic: str
    message: str
    advice: str = ""


def print_findings(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print findings as a table, and a last line that sums up."""
    console = console or Console()
    table = Table(box=None, pad_edge=False)
    for column in ("", "topic", "finding"):
        table.add_column(column)
    for finding in findings:
        # Text and not markup: names of files may hold square brackets.
        text = Text(finding.message)
        if finding.advice:
            text.append(f"\n→ {finding.advice}", style="dim")
        table.add_row(Text(finding.level, style=_STYLES[finding.level]), Text(finding.topic), text)
    console.print(table)
    stops = sum(finding.level == "stop" for finding in findings)
    warnings = sum(finding.level == "warn" for finding in findings)
    console.print(f"{len(findings)} checks, {warnings} warnings, {stops} reasons to stop")
