r"""Matching the phones that utterances begin and end with.

Which phone stands at the t-th place from either end differs from place to place: sentences begin
with other phones than they end with. With p_t the distribution at place t in the text, and g_t the
mean of what the generator says there (Wang et al., 2023, *Unsupervised speech recognition with
N-skipgram and positional unigram matching*):

.. math:: L = \frac{1}{T} \sum_t \| p_t - g_t \|_1
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wav2vec_u.matching.batches import TextSource, silent_sentences
from wav2vec_u.matching.gan.layout import Layout

PLACES = 6  # from either end; places farther in drift with every step too many


def position_tables(text: TextSource, n_symbols: int, seed: int) -> Tensor:
    """Count the phones at each place of the text's sentences.

    Returns
    -------
    Tensor
        (2, T, V): ``[0, t, v]`` is the share of sentences whose t-th phone is v, and ``[1, t, v]``
        that of those whose t-th phone from the end is v.
    """
    tables = torch.zeros(2, PLACES, n_symbols)
    for sentence in silent_sentences(text, seed, "positions of the text"):
        ids = torch.from_numpy(sentence).long()
        for end, ordered in enumerate((ids, ids.flip(0))):
            first = ordered[:PLACES]
            tables[end, torch.arange(len(first)), first] += 1
    return tables / tables.sum(-1, keepdim=True).clamp(min=1)


def position_distance(probabilities: Tensor, layout: Layout, tables: Tensor) -> Tensor:
    """Return L of every member, (E,): 0 where the places say the same, at most 2.

    Parameters
    ----------
    probabilities : Tensor
        (E, N, V).
    layout : Layout
    tables : Tensor
        (2, T, V), see `position_tables`.
    """
    before = layout.position
    behind = layout.lengths.gather(1, layout.utterance) - 1 - layout.position
    distances = []
    for places, table in zip((before, behind), tables, strict=True):
        # Steps farther in, and those that are no steps, go to one more place that is not looked at.
        near = places.clamp(max=PLACES).masked_fill(~layout.valid, PLACES)  # (E, N)
        there = F.one_hot(near, PLACES + 1)[..., :PLACES].to(probabilities.dtype)  # (E, N, T)
        found = there.transpose(1, 2) @ probabilities  # (E, T, V)
        found = found / there.sum(1).clamp(min=1).unsqueeze(-1)
        distances.append((found - table).abs().sum(-1).mean(1))  # (E,)
    return torch.stack(distances).mean(0)
