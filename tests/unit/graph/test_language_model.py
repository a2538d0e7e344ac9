"""The word model of the text: what it is estimated from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wav2vec_u.graph import language_model
from wav2vec_u.graph.language_model import write_word_model
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.lexicon import Lexicon
from wav2vec_u.text.ngram import NgramModel

LEXICON = Lexicon({"at": ("a", "t"), "b": ("b",)})


def write(path: Path, text: Path, **changed: Any) -> Lexicon:
    settings = {"order": 2, "max_words": 10_000, "fragments": 0, "seed": 0, **changed}
    return write_word_model(path, text, LEXICON, "en", **settings)


def test_sentences_are_cut_at_words_without_a_pronunciation(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("at UNKNOWN b\nAt b!\n\nb at\n", encoding="utf-8")
    assert list(write(tmp_path / "cut", text)) == ["at", "b"]
    model = NgramModel.read_arpa(tmp_path / "cut", ["at", "b"])
    pieces = [np.array(piece) for piece in ([0], [1], [0, 1], [1, 0])]
    expected = NgramModel(2).fit(pieces, ["at", "b"])
    for sentence in pieces:
        assert model.log10_prob(sentence) == pytest.approx(expected.log10_prob(sentence), abs=1e-5)


def test_a_long_text_is_thinned_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text.txt"
    text.write_text("at b\n" * 500 + "b b b at\n" * 500, encoding="utf-8")
    used: list[int] = []

    class Counting(NgramModel):
        def fit(
            self,
            sentences: Iterable[NDArray[np.int64]],
            words: list[str],
            prune: Sequence[int] = (),
        ) -> NgramModel:
            pieces = list(sentences)
            used.append(sum(map(len, pieces)))
            return super().fit(pieces, words, prune)

    monkeypatch.setattr(language_model, "NgramModel", Counting)

    def written(seed: int, max_words: int) -> str:
        path = tmp_path / "model"
        write(path, text, max_words=max_words, seed=seed)
        assert used[-1] == pytest.approx(min(max_words, 3_000), rel=0.25)
        return path.read_text(encoding="utf-8")

    assert written(0, 300) == written(0, 300)
    assert written(0, 300) != written(1, 300)
    assert written(0, 10**6) == written(1, 10**6)
    assert used[-1] == 3_000


def test_a_text_of_unknown_words_is_a_users_error(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("nothing here\n", encoding="utf-8")
    with pytest.raises(UserError, match="no word that the lexicon knows"):
        write(tmp_path / "a", text)
