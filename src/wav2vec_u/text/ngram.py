"""N-gram language models over phones: estimate, score, read and write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text import arpa, kneser_ney
from wav2vec_u.text.ngram_table import (
    FIRST_SYMBOL,
    UNKNOWN,
    FramedSentences,
    NgramTable,
    frame,
    key_base,
    unpack,
)

_BATCH_SENTENCES = 20_000


class NgramModel:
    """Interpolated modified Kneser–Ney n-gram model, equal to KenLM's ``lmplz``.

    Parameters
    ----------
    order : int
        Longest n-gram, 2 to 6.

    Attributes
    ----------
    order : int
        Longest n-gram.
    symbols_ : list of str
        Symbol of every id. Symbols that the model has not seen have the probability of <unk>.
    tables_ : list of NgramTable
        N-grams of orders 1, 2, ...

    Examples
    --------
    >>> model = NgramModel(2).fit([np.array([0, 1, 0]), np.array([0, 1])], ["a", "b"])
    >>> model.log10_prob(np.array([0, 1])) > model.log10_prob(np.array([1, 1]))
    True
    """

    def __init__(self, order: int) -> None:
        if not 2 <= order <= arpa.MAX_ORDER:
            raise ValueError(f"order must be 2 to {arpa.MAX_ORDER}, not {order}")
        self.order = order
        self.symbols_: list[str] = []
        self.tables_: list[NgramTable] = []

    def fit(
        self,
        sentences: Iterable[NDArray[np.integer]],
        symbols: Sequence[str],
        prune: Sequence[int] = (),
    ) -> NgramModel:
        """Estimate the model.

        Parameters
        ----------
        sentences : iterable of ndarray
            Symbol ids of every sentence; read once, in chunks of bounded size.
        symbols : sequence of str
            Symbol of every id. Those that never occur stay out of the model.
        prune : sequence of int
            For the orders 2, 3, ...: rarer n-grams that are left out; see `kneser_ney.estimate`.

        Raises
        ------
        ValueError
            If there is no sentence, or an id has no symbol.
        UserError
            If n-grams of so many symbols do not fit into 63 bits.
        """
        base = key_base(len(symbols), self.order)
        self.tables_ = kneser_ney.estimate(sentences, len(symbols), self.order, base, prune)
        self.symbols_ = list(symbols)
        return self

    @classmethod
    def read_arpa(cls, path: Path, symbols: Sequence[str] | None = None) -> NgramModel:
        """Read a model.

        Parameters
        ----------
        path : Path
            ARPA file of order 2 to 6, gzipped if its name ends in ``.gz``.
        symbols : sequence of str or None
            Symbol of every id; None: the words of the file, in its order.

        Raises
        ------
        UserError
            If the file is missing, truncated, contradicts itself, or has a word that is none of
            the symbols.
        """
        tables, names = arpa.read_arpa(path, symbols)
        if len(tables) < 2:
            raise UserError(f"{path}: has 1-grams only; at least 2-grams are needed")
        model = cls(len(tables))
        model.tables_ = tables
        model.symbols_ = names
        return model

    def write_arpa(self, path: Path) -> None:
        """Write the model as an ARPA file, gzipped if the name ends in ``.gz``."""
        arpa.write_arpa(path, self.tables_, self.symbols_)

    def log10_prob(self, sentence: NDArray[np.integer]) -> float:
        """Return log10 p(sentence </s> | <s>) of symbol ids (L,)."""
        return float(self.log10_probs([sentence])[0])

    def log10_probs(self, sentences: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
        """Return the log10 probability of every sentence, as float64 (S,).

        Raises
        ------
        ValueError
            If an id has no symbol.
        """
        scores = np.empty(len(sentences))
        for first in range(0, len(sentences), _BATCH_SENTENCES):
            batch = sentences[first : first + _BATCH_SENTENCES]
            framed = frame(batch, len(self.symbols_))
            # <s> has log10 probability 0, so a sentence is the sum over all its places.
            by_token = self._score_tokens(framed)
            scores[first : first + len(batch)] = np.add.reduceat(by_token, framed.starts)
        return scores

    def perplexity(self, sentences: Sequence[NDArray[np.integer]]) -> float:
        """Return ``10^(-sum of log10 p / (tokens + sentences))``, infinite without a sentence."""
        predicted = sum(map(len, sentences)) + len(sentences)
        if predicted == 0:
            return float("inf")
        return float(10 ** (-self.log10_probs(sentences).sum() / predicted))

    def dense(self, order: int) -> NDArray[np.float32]:
        """Tabulate the model for inner loops.

        Parameters
        ----------
        order : int
            1 to the model's order.

        Returns
        -------
        ndarray
            ``(V,) * order`` float32 for V symbols: ``[a, ..., y, z]`` is log10 p(z | a ... y),
            with backoff where the n-gram was not seen. Sentence ends are not among the symbols, so
            the probabilities of a context sum to less than one.
        """
        if not 1 <= order <= self.order:
            raise ValueError(f"order must be 1 to {self.order}, not {order}")
        v, base = len(self.symbols_), len(self.symbols_) + FIRST_SYMBOL
        unigrams = self._unigram_places()[FIRST_SYMBOL:]
        table = self.tables_[0].log10_probs[unigrams].astype(np.float32)  # (V,)
        backoffs = self.tables_[0].log10_backoffs[unigrams].astype(np.float32)
        for n in range(2, order + 1):
            table = table[None] + backoffs[..., None]  # (V,) * n
            ngrams = self.tables_[n - 1]
            symbols = unpack(ngrams.keys, n, base) - FIRST_SYMBOL  # (K, n)
            spoken = np.all(symbols >= 0, axis=1)
            places = tuple(symbols[spoken].T)
            table[places] = ngrams.log10_probs[spoken]
            if n < order:
                backoffs = np.zeros((v,) * n, dtype=np.float32)
                backoffs[places] = ngrams.log10_backoffs[spoken]
        return table

    def _unigram_places(self) -> NDArray[np.int64]:
        """Return the place of every token among the unigrams, that of <unk> for unseen ones."""
        places = self.tables_[0].find(np.arange(len(self.symbols_) + FIRST_SYMBOL))
        return np.where(places < 0, places[UNKNOWN], places)

    def _score_tokens(self, framed: FramedSentences) -> NDArray[np.float64]:
        """Return log10 p(token | those before it in its sentence) for all tokens (T,)."""
        base = len(self.symbols_) + FIRST_SYMBOL
        unigrams = self.tables_[0]
        places = self._unigram_places()[framed.tokens]
        tokens = unigrams.keys[places]  # unseen symbols have become <unk>
        scores = unigrams.log10_probs[places]
        history = np.arange(len(tokens)) - np.repeat(framed.starts, framed.ends - framed.starts)
        keys = tokens.copy()
        for n in range(2, self.order + 1):
            lower = self.tables_[n - 2]
            table = self.tables_[n - 1]
            context = np.concatenate([[-1], places[:-1]])  # the (n-1)-gram that ends one earlier
            backoffs = np.where(context >= 0, lower.log10_backoffs[context], 0.0)
            # At places with less than n - 1 tokens of history, the key would cross a sentence.
            inside = history >= n - 1
            keys[n - 1 :] += tokens[: 1 - n] * base ** (n - 1)
            places = np.full(len(tokens), -1, dtype=np.int64)
            places[inside] = table.find(keys[inside])
            seen = places >= 0
            scores[inside & ~seen] += backoffs[inside & ~seen]
            scores[seen] = table.log10_probs[places[seen]]
        return scores
