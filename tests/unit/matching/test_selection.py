from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2vec_u.matching.selection import Candidate, Score, score, select
from wav2vec_u.runtime.errors import UserError


class EvenModel:
    """Ten symbols and the end, all equally likely."""

    def log10_prob(self, sentence: Sequence[int]) -> float:
        return -math.log10(11) * (len(sentence) + 1)


def ids(*symbols: int) -> np.ndarray:
    return np.array(symbols, dtype=np.int64)


def test_score_counts_symbols_ends_and_usage() -> None:
    found = score(Candidate([ids(1, 2, 2), ids(), ids(3)], -7.0), EvenModel(), n_symbols=10)
    assert found.nll == pytest.approx(math.log(11))
    assert found.usage == pytest.approx(0.3)
    assert found.log_prob == -7.0
    assert found.anchor == pytest.approx(math.log(11 / 0.3))
    assert found.lm_ppl == pytest.approx(11)
    assert found.weighted_lm_ppl == pytest.approx(11 / 0.09)


def test_a_confident_candidate_near_the_anchor_wins_over_the_anchor() -> None:
    anchor = Score(nll=2.0, usage=1.0, log_prob=-500.0)
    near = Score(nll=2.1, usage=1.0, log_prob=-100.0)
    far = Score(nll=2.3, usage=1.0, log_prob=-1.0)
    scores = [far, anchor, near]
    assert min(scores, key=lambda item: item.anchor) is anchor  # step one alone
    assert select(scores) == 2


def test_usage_moves_the_limit() -> None:
    anchor = Score(nll=2.0, usage=0.5, log_prob=-500.0)  # 2 - log 0.5 = 2.69
    # 2.8 - log 1 = 2.8: its better usage lets its likelihood be worse by log 2.
    richer = Score(nll=2.8, usage=1.0, log_prob=-100.0)
    # The same likelihood without the usage is out.
    poorer = Score(nll=2.8, usage=0.5, log_prob=-1.0)
    assert select([anchor, richer, poorer]) == 1


def test_the_limit_is_a_fifth_more_perplexity() -> None:
    anchor = Score(nll=2.0, usage=1.0, log_prob=-9.0)
    inside = Score(nll=2.0 + math.log(1.19), usage=1.0, log_prob=-1.0)
    outside = Score(nll=2.0 + math.log(1.21), usage=1.0, log_prob=-1.0)
    assert select([anchor, inside]) == 1
    assert select([anchor, outside]) == 0


def test_silent_candidates_never_win_and_only_silent_ones_are_an_error() -> None:
    silent = score(Candidate([ids(), ids()], 0.0), EvenModel(), n_symbols=10)
    assert silent.anchor == math.inf
    talking = Score(nll=9.0, usage=0.1, log_prob=-1e6)
    assert select([silent, talking]) == 1
    with pytest.raises(UserError, match="silent"):
        select([silent, silent])
    with pytest.raises(UserError):
        select([])


figures = st.builds(
    Score,
    nll=st.floats(0.1, 5),
    usage=st.sampled_from([0.25, 0.5, 1.0]),
    log_prob=st.floats(-1e3, 0),
)


@given(st.lists(figures, min_size=1, max_size=6))
def test_select_equals_the_definition(scores: list[Score]) -> None:
    anchor = min(scores, key=lambda p: p.nll - math.log(p.usage))
    best = None
    for p in scores:
        limit = anchor.nll + math.log(p.usage / anchor.usage) + math.log(1.2)
        if p.nll <= limit and (best is None or p.log_prob > best.log_prob):
            best = p
    assert best is not None
    assert scores[select(scores)].log_prob == best.log_prob
