r"""Matching the statistics of text without a discriminator.

The phones of a language are found when pairs of them, next to each other and a few steps apart,
are as frequent in what is said of the recordings as in text (Yeh et al., 2019, *Unsupervised
speech recognition via segmental empirical output distribution matching*; Gao et al., 2023,
*EURO*). With P_k the table of phone pairs k steps apart, from the text, and G_k that of the
generator's distributions g:

.. math:: L = \frac{1}{K} \sum_{k=1}^{K} \| P_k - G_k \|_1, \quad
          G_k = \frac{1}{N_k} \sum_t g_t g_{t+k}^\top

A batch must be large for its tables to be near those of the language.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wav2vec_u.matching.batches import TextSource, silent_sentences
from wav2vec_u.matching.gan.layout import Layout

REACH = 6  # steps apart, at most


def skipgram_tables(text: TextSource, n_symbols: int, seed: int) -> Tensor:
    """Count pairs of phones in the text, silence drawn as for the discriminator.

    Returns
    -------
    Tensor
        (K, V, V): ``[k - 1, v, w]`` is the share of pairs k steps apart that are v and w.
    """
    tables = torch.zeros(REACH, n_symbols * n_symbols)
    for sentence in silent_sentences(text, seed, "skip-grams of the text"):
        ids = torch.from_numpy(sentence).long()
        for k in range(1, min(REACH, len(ids) - 1) + 1):
            pairs = ids[:-k] * n_symbols + ids[k:]
            tables[k - 1] += torch.bincount(pairs, minlength=n_symbols * n_symbols)
    tables = tables / tables.sum(1, keepdim=True).clamp(min=1)
    return tables.view(REACH, n_symbols, n_symbols)


def skipgram_distance(probabilities: Tensor, layout: Layout, tables: Tensor) -> Tensor:
    """Return L of every member, (E,): 0 where the statistics are those of the text, at most 2.

    Parameters
    ----------
    probabilities : Tensor
        (E, N, V).
    layout : Layout
    tables : Tensor
        (K, V, V), see `skipgram_tables`.
    """
    distances = []
    for k, table in enumerate(tables, start=1):
        pairs = layout.valid[:, k:] & (layout.position[:, k:] >= k)  # (E, N - k)
        first = probabilities[:, :-k].masked_fill(~pairs.unsqueeze(-1), 0.0)
        found = first.transpose(1, 2) @ probabilities[:, k:]  # (E, V, V)
        found = found / pairs.sum(1).clamp(min=1).view(-1, 1, 1)
        distances.append((found - table).abs().sum((1, 2)))
    return torch.stack(distances).mean(0)
