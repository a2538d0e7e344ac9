"""The factor on the likelihoods, found by how well two models agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from letter_words import letter_graph, scores_of, write_letter_text
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from wav2vec_u.graph import scale
from wav2vec_u.graph.found_weights import FILE_NAME, FoundWeights
from wav2vec_u.graph.parallel import SearchSettings, find_all
from wav2vec_u.graph.scale import SCALES, calibrate_scale
from wav2vec_u.graph.search import Found, FoundWord
from wav2vec_u.runtime.errors import UserError

pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")

_Scores = NDArray[np.float32]
SETTINGS = SearchSettings(Path("graph"), 9.0, 9.0, 4000, scale=9.0)


def found(words: str) -> Found:
    return Found(
        tuple(FoundWord(word, 0, 1) for word in words.split()),
        np.zeros(1, np.int32),
        np.ones(1, bool),
        np.zeros((1, 2), np.float32),
    )


def test_the_scale_of_most_agreement_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second model finds as many wrong words as the scale is far from 1, of four a sentence."""

    def find(
        settings: SearchSettings, scores: Sequence[_Scores], threads: int
    ) -> Iterator[Found | None]:
        wrong = 0 if scores[0][0, 0] == 0 else min(4, abs(SCALES.index(settings.scale) - 3))
        yield found(" ".join(["a"] * (4 - wrong) + ["b"] * wrong))
        yield None  # neither finds anything here

    monkeypatch.setattr(scale, "find_all", find)
    views = [(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))] * 2
    best, disagreement = calibrate_scale(SETTINGS, views, threads=1)
    assert best == 1.0
    assert list(disagreement.values()) == [75.0, 50.0, 25.0, 0.0, 25.0, 50.0]


def test_where_nothing_is_found_nothing_is_agreed_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "find_all", lambda *_: iter([None]))
    views = [(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32))]
    assert set(calibrate_scale(SETTINGS, views, threads=1)[1].values()) == {100.0}


@pytest.mark.parametrize("loudness", [0.3, 1.0, 3.0])
def test_of_planted_words_it_makes_nearly_the_fewest_errors(
    tmp_path: Path, loudness: float
) -> None:
    """Whatever the size of the likelihoods: what two noisy models agree on is what was said."""
    lines = ["abe gab bag", "gab abe be", "bag abe gab", "abe bag bebe", "gab gab bag", "be bag"]
    phones = write_letter_text(tmp_path, lines * 4)
    graph = letter_graph(tmp_path)
    rng = np.random.default_rng(0)
    said = [str(rng.choice(lines)) for _ in range(40)]

    def heard(letters: str) -> _Scores:
        clear = scores_of(phones, letters.replace(" ", ""), frames=2)
        noisy = 0.4 * clear + rng.normal(scale=3.0, size=clear.shape)
        return (loudness * noisy).astype(np.float32)

    views = [(heard(letters), heard(letters)) for letters in said]
    best, disagreement = calibrate_scale(graph, views, threads=1)

    def errors(factor: float) -> int:
        items = find_all(replace(graph, scale=factor), [sum(pair) / 2 for pair in views], 1)
        words = [[word.word for word in item.words] if item else [] for item in items]
        pairs = zip(said, words, strict=True)
        return sum(Levenshtein.distance(truth.split(), own) for truth, own in pairs)

    rates = {factor: errors(factor) for factor in SCALES}
    assert max(disagreement.values()) > 1.2 * min(disagreement.values())  # it does matter
    assert rates[best] <= min(rates.values()) + 0.1 * (max(rates.values()) - min(rates.values()))


def test_weights_are_kept_for_later(tmp_path: Path) -> None:
    assert FoundWeights.load(tmp_path) is None
    FoundWeights(1.25, 0.5).save(tmp_path)
    assert FoundWeights.load(tmp_path) == FoundWeights(1.25, 0.5)
    (tmp_path / FILE_NAME).write_text('{"word_cost": 1}')
    with pytest.raises(UserError, match=r"search_weights\.json: is damaged"):
        FoundWeights.load(tmp_path)
