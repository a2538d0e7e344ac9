"""A word n-gram model of the unpaired text, as an ARPA file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.text.lexicon import Lexicon
from wav2vec_u.text.ngram import NgramModel
from wav2vec_u.text.normalize import Normalizer
from wav2vec_u.text.source import iter_lines


def write_word_model(
    path: Path,
    text: Path,
    lexicon: Lexicon,
    language: str,
    *,
    order: int,
    max_words: int,
    seed: int,
) -> int:
    """Estimate the model and write it.

    Sentences are cut at words without a pronunciation, which can never be recognised. A text of
    more than `max_words` words is thinned out at random, so that time, memory and the size of the
    graph stay bounded.

    Parameters
    ----------
    path : Path
        Gets the ARPA file.
    text : Path
        Text file, or folder of text files.
    lexicon : Lexicon
        Words that may be recognised.
    language : str
    order : int
        Longest n-gram, at least 2.
    max_words : int
    seed : int

    Returns
    -------
    int
        Words that the model was estimated from; where the text was thinned out, about so many.

    Raises
    ------
    UserError
        If the text is missing, or no word of it is in the lexicon.
    """
    words = list(lexicon)
    ids = {word: number for number, word in enumerate(words)}
    normalizer = Normalizer(language)
    total = sum(len(piece) for piece in _pieces(text, normalizer, ids, share=1.0, seed=seed))
    if total == 0:
        raise UserError(f"{text}: has no word that the lexicon knows; run the text stage again")
    share = min(1.0, max_words / total)
    model = NgramModel(order).fit(_pieces(text, normalizer, ids, share, seed), words)
    model.write_arpa(path)
    return min(total, max_words)


def _pieces(
    text: Path, normalizer: Normalizer, ids: dict[str, int], share: float, seed: int
) -> Iterator[NDArray[np.int64]]:
    rng = numpy_generator(seed, "sentences of the word model")
    for _, line in iter_lines(text):
        if share < 1 and rng.random() >= share:
            continue
        piece: list[int] = []
        for word in normalizer(line).split():
            if word in ids:
                piece.append(ids[word])
            elif piece:
                yield np.array(piece)
                piece = []
        if piece:
            yield np.array(piece)
