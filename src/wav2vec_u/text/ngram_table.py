"""N-grams as sorted integer keys: what estimation, scoring and ARPA files share.

A token is an integer: `UNKNOWN`, `START` and `END` come first, then symbol ``s`` is token
``s + FIRST_SYMBOL``. An n-gram is one 64-bit key with its first token in the most significant
place, so that n-grams of one context are neighbours in a sorted table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.runtime.errors import UserError

UNKNOWN, START, END, FIRST_SYMBOL = 0, 1, 2, 3
SPECIAL_NAMES = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class NgramTable:
    """All n-grams of one order.

    Attributes
    ----------
    keys : ndarray
        (K,) int64, ascending.
    log10_probs : ndarray
        (K,) float64: log10 p(last token | those before).
    log10_backoffs : ndarray
        (K,) float64: log10 of the backoff weight of the n-gram as a context, 0 where it is none.
    """

    keys: NDArray[np.int64]
    log10_probs: NDArray[np.float64]
    log10_backoffs: NDArray[np.float64]

    def find(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of every wanted key, -1 for those that are not in the table."""
        if len(self.keys) == 0:
            return np.full(wanted.shape, -1, dtype=np.int64)
        places = np.searchsorted(self.keys, wanted)
        places[places == len(self.keys)] = 0
        return np.where(self.keys[places] == wanted, places, -1)


@dataclass(frozen=True)
class FramedSentences:
    """Sentences one after the other, each between `START` and `END`.

    Attributes
    ----------
    tokens : ndarray
        (T,) int64 tokens.
    starts : ndarray
        (S,) place of each sentence's `START`.
    ends : ndarray
        (S,) one past the place of each sentence's `END`.
    """

    tokens: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def frame(sentences: Sequence[NDArray[np.integer]], n_symbols: int) -> FramedSentences:
    """Put sentences of symbol ids between start and end tokens.

    Raises
    ------
    ValueError
        If an id is negative or not below `n_symbols`.
    """
    lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int64)
    ends = np.cumsum(lengths + 2)
    starts = ends - lengths - 2
    tokens = np.full(int(lengths.sum()) + 2 * len(lengths), -1, dtype=np.int64)
    tokens[starts] = START
    tokens[ends - 1] = END
    if lengths.any():
        symbols = np.concatenate([np.asarray(sentence) for sentence in sentences if len(sentence)])
        if symbols.min() < 0 or symbols.max() >= n_symbols:
            raise ValueError(f"symbol ids must be from 0 to {n_symbols - 1}")
        tokens[tokens < 0] = symbols.astype(np.int64) + FIRST_SYMBOL
    return FramedSentences(tokens, starts, ends)


def key_base(n_symbols: int, order: int) -> int:
    """Return the number of tokens, after checking that n-grams of them fit into 63 bits.

    Raises
    ------
    UserError
        If they do not.
    """
    base = n_symbols + FIRST_SYMBOL
    if base**order >= 2**63:
        raise UserError(
            f"text.ngram_order: {order} is too high for {n_symbols} different symbols; lower it"
        )
    return base


def unpack(keys: NDArray[np.int64], order: int, base: int) -> NDArray[np.int64]:
    """Return the tokens (K, order) of keys (K,).

    >>> unpack(np.array([1 * 100 + 4 * 10 + 2]), 3, 10).tolist()
    [[1, 4, 2]]
    """
    places = base ** np.arange(order - 1, -1, -1, dtype=np.int64)
    return keys[:, None] // places % base
