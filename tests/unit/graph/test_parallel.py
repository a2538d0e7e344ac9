"""The search in several threads gives what one gives."""

from __future__ import annotations

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

pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")

WORDS = ("abe", "gab", "bag", "be", "bebe")


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchSettings, list[str]]:
    """A graph, and its phones."""
    folder = tmp_path_factory.mktemp("letters")
    phones = write_letter_text(folder)
    return letter_graph(folder), phones


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


def test_several_threads_find_the_same_in_the_same_order(
    letters: tuple[SearchSettings, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, phones = letters
    monkeypatch.setattr(parallel, "_AHEAD", 2)
    scores = speech(phones, 21)
    scores[4] = scores[4][:0]
    scores[9] = scores[9][:1]
    scores[15] = np.tile(scores[15], (60, 1))  # takes longer than all behind it
    alone = [settings.open().find(item) for item in scores]
    for threads in (1, 3):
        together = list(find_all(settings, iter(scores), threads))
        assert len(together) == len(scores)
        assert all(same(one, other) for one, other in zip(together, alone, strict=True))
    found = {item.words for item in alone if item is not None}
    assert len(found) > 15, "or a wrong order would not be seen"


def test_nothing_is_found_in_nothing(letters: tuple[SearchSettings, list[str]]) -> None:
    settings, _ = letters
    for threads in (1, 2):
        assert list(find_all(settings, [], threads)) == []


def test_utterances_are_not_read_long_before_they_are_searched(
    letters: tuple[SearchSettings, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, phones = letters
    monkeypatch.setattr(parallel, "_AHEAD", 2)
    read = 0

    def scores() -> Iterator[NDArray[np.float32]]:
        nonlocal read
        for item in speech(phones, 40):
            read += 1
            yield item

    for number, _ in enumerate(find_all(settings, scores(), threads=2)):
        assert read - number <= 5  # two for each thread, and one that was asked for
    assert read == 40


def test_an_error_of_the_caller_is_told(letters: tuple[SearchSettings, list[str]]) -> None:
    settings, phones = letters

    def scores() -> Iterator[NDArray[np.float32]]:
        yield from speech(phones, 7)
        raise FloatingPointError("the generator's scores are not finite")

    with pytest.raises(FloatingPointError, match="not finite"):
        list(find_all(settings, scores(), threads=2))


@pytest.mark.parametrize("share", [None, 0.0, 0.5], ids=["missing", "empty", "cut off"])
def test_a_damaged_graph_is_a_users_error(tmp_path: Path, share: float | None) -> None:
    phones = write_letter_text(tmp_path)
    settings = letter_graph(tmp_path)
    path = settings.graph / "graph.npz"
    whole = path.read_bytes()
    path.unlink()
    if share is not None:
        path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"graph: .*decoding graph.*run again"):
        list(find_all(settings, speech(phones, 4), threads=2))


def test_all_settings_reach_the_search(letters: tuple[SearchSettings, list[str]]) -> None:
    settings, _ = letters
    search = replace(settings, beam=3.5, lattice_beam=2.5, max_active=7).open()
    assert (search._beam, search._lattice_beam, search._max_active) == (3.5, 2.5, 7)
    assert (search._word_cost, search._scale) == (settings.word_cost, settings.scale)
