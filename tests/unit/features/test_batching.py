"""Batches: complete, bounded, of like length, in a fixed order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2vec_u.features.batching import length_batches, map_ahead

lengths = st.lists(st.floats(0.1, 40.0), max_size=60)


@given(lengths, st.floats(1.0, 60.0), st.integers(1, 20))
def test_every_item_is_in_one_batch_and_batches_are_bounded(
    seconds: list[float], batch_seconds: float, window: int
) -> None:
    items = list(enumerate(seconds))
    batches = list(length_batches(items, lambda item: item[1], batch_seconds, window))
    assert sorted(item for batch in batches for item in batch) == items
    for batch in batches:
        longest = max(item[1] for item in batch)
        assert len(batch) == 1 or len(batch) * longest <= batch_seconds
        assert len({index // window for index, _ in batch}) == 1


def test_items_of_like_length_share_a_batch() -> None:
    batches = list(length_batches([9.0, 1.0, 9.0, 1.0, 1.0], float, 20.0))
    assert batches == [[1.0, 1.0, 1.0], [9.0, 9.0]]


def test_batches_stream() -> None:
    def endless() -> Iterator[float]:
        while True:
            yield 1.0

    batches = length_batches(endless(), float, 3.0, window=10)
    assert [len(next(batches)) for _ in range(4)] == [3, 3, 3, 1]


def test_map_ahead_keeps_the_order_and_runs_few_items_ahead() -> None:
    started: list[int] = []
    results = map_ahead(lambda item: started.append(item) or item * item, range(20), workers=2)
    assert next(results) == (0, 0)
    assert max(started) <= 3
    assert list(results) == [(item, item * item) for item in range(1, 20)]
    started.clear()
    results = map_ahead(started.append, range(40), workers=2, ahead=5)
    next(results)
    assert max(started) <= 11
    assert len(list(results)) == 39


def test_map_ahead_works_in_other_threads_and_passes_errors_on() -> None:
    def thread_or_error(item: int) -> int:
        if item == 2:
            raise OSError("unreadable")
        return threading.get_ident()

    results = map_ahead(thread_or_error, range(4))
    assert next(results)[1] != threading.get_ident()
    next(results)
    with pytest.raises(OSError, match="unreadable"):
        next(results)
