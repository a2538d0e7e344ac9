"""Choosing among generators without labels.

Baevski et al. (2021), "Unsupervised Cross-Validation Metric": a language model says how much a
candidate's transcripts look like language, its vocabulary usage keeps it from saying little, and
among the candidates that are about as good as the best of these, the model's own confidence
decides. The published code stops after the first step, with its `weighted_lm_ppl`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.runtime.errors import UserError

MARGIN = math.log(1.2)  # paper: candidates up to 1.2 times the anchor's perplexity stay in


class LanguageModel(Protocol):
    """What is needed of `text.ngram.NgramModel`."""

    def log10_prob(self, sentence: Any, /) -> float:
        """Log10 probability of a sentence with its end."""


@dataclass(frozen=True)
class Candidate:
    """What a generator says about a fixed set of utterances.

    Attributes
    ----------
    hypotheses : list of ndarray
        Phone ids of every utterance, without silence.
    log_prob : float
        Total log-probability (nats) of the greedy paths under the generator, not normalised.
    """

    hypotheses: list[NDArray[np.int64]]
    log_prob: float


def spoken_phones(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Merge equal neighbours, and drop silence.

    >>> spoken_phones(np.array([0, 2, 2, 0, 2, 1])).tolist()
    [2, 2, 1]
    """
    merged = labels[np.concatenate([[True], labels[1:] != labels[:-1]])]
    spoken: NDArray[np.int64] = merged[merged > 0].astype(np.int64)
    return spoken


@dataclass(frozen=True)
class Score:
    """A candidate's figures.

    Attributes
    ----------
    nll : float
        NLL_LM: nats per symbol under the language model, sentence ends counted as symbols.
    usage : float
        U: share of the symbols that are ever said, 0 to 1.
    log_prob : float
        Total log-probability under the generator, nats.
    """

    nll: float
    usage: float
    log_prob: float

    @property
    def anchor(self) -> float:
        """``NLL_LM - log U``; lower is better, infinite for a candidate that says nothing."""
        return self.nll - math.log(self.usage) if self.usage > 0 else math.inf

    @property
    def lm_ppl(self) -> float:
        """Perplexity under the language model."""
        return math.exp(self.nll)

    @property
    def weighted_lm_ppl(self) -> float:
        """The reference's figure: ``lm_ppl / U²``; infinite for one that says nothing."""
        return self.lm_ppl / self.usage**2 if self.usage > 0 else math.inf


def score(candidate: Candidate, lm: LanguageModel, n_symbols: int) -> Score:
    """Measure a candidate.

    Parameters
    ----------
    candidate : Candidate
        Hypotheses and their log-probability.
    lm : LanguageModel
        Phone n-gram model.
    n_symbols : int
        Symbols that could be said. The reference counts silence here, although it removes silence
        from the hypotheses.
    """
    total_log10 = 0.0
    n_scored = 0
    seen: set[int] = set()
    for hypothesis in candidate.hypotheses:
        total_log10 += lm.log10_prob(hypothesis)
        n_scored += len(hypothesis) + 1
        seen.update(hypothesis.tolist())
    nll = -total_log10 * math.log(10) / n_scored if n_scored else math.inf
    return Score(nll=nll, usage=len(seen) / n_symbols, log_prob=candidate.log_prob)


def select(scores: Sequence[Score]) -> int:
    """Return the index of the best candidate by the paper's three steps.

    1. Anchor P̂: the smallest ``NLL_LM(P) - log U(P)``.
    2. Keep every P with ``NLL_LM(P) <= NLL_LM(P̂) + log(U(P) / U(P̂)) + log 1.2``.
    3. Of those, the highest total log-probability under the model.

    Raises
    ------
    UserError
        If no candidate says anything (or none was given).
    """
    speaking = [index for index, item in enumerate(scores) if math.isfinite(item.anchor)]
    if not speaking:
        raise UserError(
            "matching: every restart fell silent; give it more recordings, text or updates"
        )
    anchor = scores[min(speaking, key=lambda index: scores[index].anchor)]
    kept = [
        index
        for index in speaking
        if scores[index].nll <= anchor.nll + math.log(scores[index].usage / anchor.usage) + MARGIN
    ]
    return max(kept, key=lambda index: scores[index].log_prob)
