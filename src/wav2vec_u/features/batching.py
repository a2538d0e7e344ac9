"""Batches of utterances of like length, loaded ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

BUCKET_WINDOW = 1024  # utterances sorted together: enough for little padding, few enough to stream


def length_batches(
    items: Iterable[T],
    seconds: Callable[[T], float],
    batch_seconds: float,
    window: int = BUCKET_WINDOW,
) -> Iterator[list[T]]:
    """Group items so that a batch, padded to its longest item, holds at most `batch_seconds`.

    Items are sorted by length inside windows of the input order and never across them, so that the
    corpus streams through and the same corpus always gives the same batches.

    Parameters
    ----------
    items : iterable
        What is batched, in corpus order.
    seconds : callable
        Length of an item.
    batch_seconds : float
        Bound on ``len(batch) * longest``; an item longer than this gets a batch of its own.
    window : int
        Items that are sorted together.

    Examples
    --------
    >>> list(length_batches([3.0, 1.0, 2.0, 1.0], float, 4.0))
    [[1.0, 1.0], [2.0], [3.0]]
    """
    remaining = iter(items)
    while chunk := list(islice(remaining, window)):
        batch: list[T] = []
        for item in sorted(chunk, key=seconds):
            # Sorted, so the item at hand is the longest and sets the padded length of all.
            if batch and (len(batch) + 1) * seconds(item) > batch_seconds:
                yield batch
                batch = []
            batch.append(item)
        yield batch


def map_ahead(
    function: Callable[[T], R], items: Iterable[T], workers: int = 2, ahead: int = 1
) -> Iterator[tuple[T, R]]:
    """Apply a function in threads, at most `workers` * `ahead` + 1 items ahead of who consumes.

    Results come in order. Audio is decoded this way while the encoder is at work on the batch
    before. Where some items take far longer than others, `ahead` keeps all threads at work.

    Examples
    --------
    >>> list(map_ahead(len, ["a", "bc", ""]))
    [('a', 1), ('bc', 2), ('', 0)]
    """
    pending: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) > workers * ahead:
                oldest, future = pending.popleft()
                yield oldest, future.result()
        for oldest, future in pending:
            yield oldest, future.result()
