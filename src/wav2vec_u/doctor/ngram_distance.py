"""How far two samples of phone sequences lie apart: Jensen-Shannon divergence of their n-grams.

Lin et al. (2022), *Analyzing the robustness of unsupervised speech recognition*: training fails
where the 4-grams of the text and of what is said diverge by more than about 0.25-0.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Sentence = npt.NDArray[np.integer] | Sequence[int]


def ngram_codes(sentences: Iterable[Sentence], order: int, n_symbols: int) -> npt.NDArray[np.int64]:
    """Number the n-grams of sentences; none crosses the end of a sentence.

    Returns
    -------
    ndarray of int64, (N,)
        One code for each occurrence, the same for the same n-gram.
    """
    weights = n_symbols ** np.arange(order, dtype=np.int64)[::-1]
    codes = [
        np.lib.stride_tricks.sliding_window_view(np.asarray(sentence, dtype=np.int64), order)
        @ weights
        for sentence in sentences
        if len(sentence) >= order
    ]
    return np.concatenate(codes) if codes else np.zeros(0, dtype=np.int64)


def jensen_shannon(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> float:
    """Jensen-Shannon divergence between two samples, in bits.

    Parameters
    ----------
    left, right : (N,) and (M,) int64
        Codes of what was seen.

    Returns
    -------
    float
        0 for equal relative frequencies, 1 where nothing is shared; NaN for an empty sample.
    """
    if len(left) == 0 or len(right) == 0:
        return float("nan")
    symbols = np.unique(np.concatenate([left, right]))
    p = np.bincount(np.searchsorted(symbols, left), minlength=len(symbols)) / len(left)
    q = np.bincount(np.searchsorted(symbols, right), minlength=len(symbols)) / len(right)
    middle = (p + q) / 2
    return float(_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2


def split_half_distances(
    sentences: Sequence[Sentence], n_symbols: int, rng: np.random.Generator, max_order: int = 4
) -> list[float]:
    """Distance of a random half of the sentences from the other half, for orders 1 to `max_order`.

    It is the noise floor of every comparison with this text: no distance below it means anything.
    """
    order = rng.permutation(len(sentences))
    half = len(sentences) // 2
    left = [sentences[index] for index in order[:half]]
    right = [sentences[index] for index in order[half:]]
    return [
        jensen_shannon(ngram_codes(left, n, n_symbols), ngram_codes(right, n, n_symbols))
        for n in range(1, max_order + 1)
    ]


def _relative_entropy(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    present = p > 0
    return float((p[present] * np.log2(p[present] / q[present])).sum())
