"""The search in several processes gives what one gives, and leaves no process behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from letter_words import letter_graph, scores_of, write_letter_text
from numpy.typing import NDArray

from wav2vec_u.graph import parallel
from wav2vec_u.graph.parallel import SearchSettings, find_all
from wav2vec_u.graph.search import Found
from wav2vec_u.runtime.errors import UserError

pytest.importorskip("kaldi_decoder", reason="the extra `decode` is not installed")

WORDS = ("abe", "gab", "bag", "be", "bebe")


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchSettings, list[str]]:
    """A graph, and its phones."""
    folder = tmp_path_factory.mktemp("letters")
    phones = write_letter_text(folder)
    return letter_graph(folder), phones


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Whatever a test does, all processes that search have ended after it."""
    yield
    assert multiprocessing.active_children() == []


def speech(phones: Sequence[str], count: int, seed: int = 0) -> list[NDArray[np.float32]]:
    """Utterances of one to four words with some noise, each other than all the others."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        said = scores_of(phones, " ".join(rng.choice(WORDS, size=rng.integers(1, 5))))
        made.append((said + rng.normal(size=said.shape)).astype(np.float32))
    return made


def same(one: Found | None, other: Found | None) -> bool:
    if one is None or other is None:
        return one is other
    return (
        one.words == other.words
        and np.array_equal(one.labels, other.labels)
        and np.array_equal(one.starts, other.starts)
    )


@pytest.mark.parametrize("batch", [2, 16])
def test_several_processes_find_the_same_in_the_same_order(
    letters: tuple[SearchSettings, list[str]], monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    settings, phones = letters
    monkeypatch.setattr(parallel, "BATCH", batch)
    scores = speech(phones, 21)
    scores[4] = scores[4][:0]
    scores[9] = scores[9][:1]
    scores[15] = np.tile(scores[15], (60, 1))  # takes longer than all behind it
    alone = list(find_all(settings, scores, workers=1))
    together = list(find_all(settings, iter(scores), workers=2))
    assert len(together) == len(scores)
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))
    found = {item.words for item in alone if item is not None}
    assert len(found) > 15, "or a wrong order would not be seen"


def test_nothing_is_found_in_nothing(letters: tuple[SearchSettings, list[str]]) -> None:
    settings, _ = letters
    for workers in (1, 2):
        assert list(find_all(settings, [], workers)) == []


def test_utterances_are_not_read_long_before_they_are_searched(
    letters: tuple[SearchSettings, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, phones = letters
    monkeypatch.setattr(parallel, "BATCH", 1)
    read = 0

    def scores() -> Iterator[NDArray[np.float32]]:
        nonlocal read
        for item in speech(phones, 40):
            read += 1
            yield item

    for number, _ in enumerate(find_all(settings, scores(), workers=2)):
        assert read - number <= 6  # two for each process, and one that waits
    assert read == 40


def test_leaving_early_ends_the_processes(
    letters: tuple[SearchSettings, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, phones = letters
    monkeypatch.setattr(parallel, "BATCH", 1)
    found = find_all(settings, speech(phones, 30), workers=2)
    assert next(found) is not None
    assert len(multiprocessing.active_children()) == 2
    found.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_an_error_of_the_caller_ends_the_processes(
    letters: tuple[SearchSettings, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, phones = letters
    monkeypatch.setattr(parallel, "BATCH", 1)

    def scores() -> Iterator[NDArray[np.float32]]:
        yield from speech(phones, 7)
        raise FloatingPointError("the generator's scores are not finite")

    with pytest.raises(FloatingPointError, match="not finite"):
        list(find_all(settings, scores(), workers=2))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("share", [None, 0.0, 0.5], ids=["missing", "empty", "cut off"])
def test_a_damaged_graph_is_a_users_error_in_every_process(
    tmp_path: Path, workers: int, share: float | None
) -> None:
    phones = write_letter_text(tmp_path)
    settings = letter_graph(tmp_path)
    path = settings.graph / "graph.fst"
    whole = path.read_bytes()
    path.unlink()
    if share is not None:
        path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"graph: .*decoding graph.*run again"):
        list(find_all(settings, speech(phones, 40), workers))


def test_a_process_that_is_killed_is_told(
    letters: tuple[SearchSettings, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, phones = letters
    monkeypatch.setattr(parallel, "BATCH", 1)
    found = find_all(settings, speech(phones, 40), workers=2)
    next(found)
    first, _ = multiprocessing.active_children()
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"was killed, perhaps for its memory.*threads"):
        list(found)
    assert multiprocessing.active_children() == []


def test_beam_and_states_reach_the_search(letters: tuple[SearchSettings, list[str]]) -> None:
    settings, _ = letters
    search = replace(settings, beam=3.5, lattice_beam=2.5).open()
    assert (search._beam, search._lattice_beam) == (3.5, 2.5)
