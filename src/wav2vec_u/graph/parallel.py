"""The search for words in several processes, since it holds Python's lock."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.graph.search import Found, WordSearch
from wav2vec_u.runtime.errors import UserError

BATCH = 16  # utterances that go to another process at once

_Scores = NDArray[np.float32]


@dataclass(frozen=True)
class SearchSettings:
    """The arguments of `WordSearch`, for processes that make their own."""

    graph: Path
    beam: float
    lattice_beam: float
    word_cost: float = 0.0
    scale: float = 1.0

    def open(self) -> WordSearch:
        """Load the graph."""
        return WordSearch(self.graph, self.beam, self.lattice_beam, self.word_cost, self.scale)


def find_all(
    settings: SearchSettings, scores: Iterable[_Scores], workers: int
) -> Iterator[Found | None]:
    """Find the words of many utterances, in order; some hundred utterances are held at once.

    Parameters
    ----------
    settings : SearchSettings
    scores : iterable of (T, V) float32
        As `WordSearch.find` takes them.
    workers : int
        Processes, each with the graph in its memory; with one, all is done in this one.

    Raises
    ------
    UserError
        If the graph cannot be used, or a process is killed.
    """
    if workers == 1:
        yield from map(settings.open().find, scores)
        return
    items = iter(scores)
    waiting: deque[Future[list[Found | None]]] = deque()
    with ExitStack() as stack:
        idle: SimpleQueue[Connection] = SimpleQueue()
        for _ in range(workers):
            idle.put(_start_worker(settings, stack))
        # A thread for every process sends it a batch and waits for the result.
        threads = stack.enter_context(ThreadPoolExecutor(workers))
        # Who leaves early does not wait for what nobody will read.
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        while batch := list(islice(items, BATCH)):
            waiting.append(threads.submit(_ask, idle, batch))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _start_worker(settings: SearchSettings, stack: ExitStack) -> Connection:
    # Not forked: torch's threads do not survive that.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(settings, theirs), daemon=True)
    process.start()
    theirs.close()
    stack.callback(process.join)
    stack.callback(ours.close)  # first: it ends the process
    return ours


def _ask(idle: SimpleQueue[Connection], batch: list[_Scores]) -> list[Found | None]:
    connection = idle.get()
    try:
        connection.send(batch)
        answer: list[Found | None] | Exception = connection.recv()
    except (EOFError, OSError) as error:
        raise UserError(
            "words: a process that searches was killed, perhaps for its memory; "
            "run again with fewer --set threads"
        ) from error
    finally:
        idle.put(connection)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _serve(settings: SearchSettings, connection: Connection) -> None:
    """Answer batches until the other side closes."""
    search: WordSearch | None = None
    while True:
        try:
            batch = connection.recv()
        except EOFError:
            return
        try:
            search = search or settings.open()
            connection.send([search.find(item) for item in batch])
        except UserError as error:
            connection.send(error)
        except Exception as error:  # told where it can be seen, instead of dying in silence
            connection.send(RuntimeError(f"the search for words failed: {error!r}"))
