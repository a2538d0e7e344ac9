"""Progress for people, and the same figures as JSON lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar on stderr (rate, time left); silent where stderr is no terminal.

    >>> list(progress([1, 2], label="counting"))
    [1, 2]
    """
    yield from tqdm(items, desc=label, total=total, disable=not sys.stderr.isatty(), leave=False)


class MetricsLog:
    """Append scalars to a JSON-lines file, one object a call.

    Parameters
    ----------
    path : Path
        File that is appended to; a resumed stage goes on in the same file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, **values: Any) -> None:
        """Write one line and flush it, so that a kill loses nothing that was measured."""
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
