"""A word n-gram model of the unpaired text, as an ARPA file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.graph.fragments import Fragments
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.text.lexicon import Lexicon
from wav2vec_u.text.ngram import NgramModel
from wav2vec_u.text.normalize import Normalizer
from wav2vec_u.text.source import iter_lines

RARE_COUNT = 10  # words that are said no more often stand for those that are never said
RAREST_SHARE = 0.5  # of the rare words, from which the form of an unknown word is drawn


def write_word_model(
    path: Path,
    text: Path,
    lexicon: Lexicon,
    language: str,
    *,
    order: int,
    max_words: int,
    prune: Sequence[int] = (),
    fragments: int,
    seed: int,
) -> Lexicon:
    """Estimate the model and write it.

    A word without a pronunciation becomes the fragments of a rare word, drawn at random, and every
    other rare word becomes its own fragments in half of its places: so the model learns where
    unknown words stand and how they sound. Without fragments, sentences are cut at words that have
    no pronunciation. A text of more than `max_words` words is thinned out at random, so that time,
    memory and the size of the graph stay bounded.

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
    prune : sequence of int
        See `text.ngram.NgramModel.fit`.
    fragments : int
        Of two phones and more; 0: no fragments at all.
    seed : int

    Returns
    -------
    Lexicon
        The words, and the fragments behind them.

    Raises
    ------
    UserError
        If the text is missing, or no word of it is in the lexicon.
    """
    reader = _Reader(text, Normalizer(language), lexicon, seed)
    total = reader.counts.total()
    if total == 0:
        raise UserError(f"{text}: has no word that the lexicon knows; run the text stage again")
    known = lexicon
    if fragments:
        reader.learn_fragments(fragments)
        known = reader.lexicon
    pieces = reader.pieces(min(1.0, max_words / total))
    model = NgramModel(order).fit(pieces, list(known), prune)
    model.write_arpa(path)
    return known


class _Reader:
    """The text as sequences of numbers, read from the disk at every pass."""

    def __init__(self, text: Path, normalizer: Normalizer, lexicon: Lexicon, seed: int) -> None:
        self._text = text
        self._normalizer = normalizer
        self._seed = seed
        self.lexicon = lexicon
        self._n_words = len(lexicon)
        self._fragments: Fragments | None = None
        self._rare: list[str] = []
        self.counts = Counter(
            word
            for _, line in iter_lines(text)
            for word in normalizer(line).split()
            if word in lexicon
        )

    def learn_fragments(self, count: int) -> None:
        """From now on, write what is unknown in fragments."""
        words = self.lexicon
        rare = [word for word in words if self.counts[word] <= RARE_COUNT] or list(words)
        rare.sort(key=lambda word: self.counts[word])
        phones = {phone for word in words for phone in words[word]}
        self._fragments = Fragments((words[word] for word in rare), phones, count)
        self._rare = rare[: max(1, round(RAREST_SHARE * len(rare)))]
        units = self._fragments.lexicon()
        self.lexicon = Lexicon(
            {word: words[word] for word in words} | {unit: units[unit] for unit in units}
        )

    def pieces(self, share: float) -> Iterator[NDArray[np.int64]]:
        """Yield sentences, or the parts between words that cannot be written."""
        ids = {word: number for number, word in enumerate(self.lexicon)}
        rng = numpy_generator(self._seed, "sentences of the word model")
        for _, line in iter_lines(self._text):
            if share < 1 and rng.random() >= share:
                continue
            piece: list[int] = []
            for word in self._normalizer(line).split():
                written = self._write(word, rng)
                piece += [ids[name] for name in written]
                if not written and piece:
                    yield np.array(piece)
                    piece = []
            if piece:
                yield np.array(piece)
        # Once each, by itself: a fragment that the model has never seen could not be found.
        for number in range(self._n_words, len(self.lexicon)):
            yield np.array([number])

    def _write(self, word: str, rng: np.random.Generator) -> list[str]:
        """Return the entries of the lexicon that stand for a word; none if nothing can."""
        count = self.counts[word]
        if self._fragments is None:
            return [word] if count else []
        if count > RARE_COUNT or (count and rng.random() < 0.5):
            return [word]
        form = word if count else self._rare[rng.integers(len(self._rare))]
        return self._fragments.split(self.lexicon[form])
