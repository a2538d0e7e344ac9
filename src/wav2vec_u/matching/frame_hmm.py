"""A hidden Markov model that reads what a generator makes of frames.

The states are phones with the phone before them, the transitions are the trigram of the unpaired
text, and the likelihood of a frame is what the generator says of it, divided by how often it says
so (Bourlard and Morgan 1994, *Connectionist Speech Recognition*). Frames that the
generator takes for a pause are passed over: how long people pause is not in the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from wav2vec_u.matching.decipherment import CodeLanguage
from wav2vec_u.matching.ngram_hmm import Floats, PhoneTransitions, expect
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError

HMM_NAME = "frame_hmm.safetensors"
PAUSE = 0  # output of the generator: `<SIL>` is the first phone of every inventory
PAUSE_ABOVE = 0.5  # probability of a pause from which on a frame is one
PRIOR_FLOOR = 1e-4  # a phone that is hardly ever said must not win wherever it is just thinkable


@dataclass(frozen=True)
class Read:
    """What the model makes of utterances.

    Attributes
    ----------
    posteriors : list of ndarray, each (S, V)
        p(output of the generator | utterance) of every frame; a pause is one for certain.
    gain : float
        Nats by which the frames that are no pause are likelier than if the generator knew nothing.
    voiced : int
        Number of these frames.
    """

    posteriors: list[Floats]
    gain: float
    voiced: int


@dataclass(frozen=True)
class FrameHmm:
    """Phones of the text as states, the outputs of a generator as emissions.

    Attributes
    ----------
    language : CodeLanguage
        The V' phones that are states, by their output, and how they follow each other.
    prior : ndarray, shape (V,)
        Share of frames that the generator gives to each of its V outputs.
    power : float
        Exponent of the likelihoods, which frames that overlap would otherwise count twice.
    stay : float
        Probability that a frame goes on with the phone of the one before it.
    """

    language: CodeLanguage
    prior: Floats
    power: float
    stay: float

    def read(
        self, log_probs: Sequence[Floats], threads: int, others: Sequence[Floats] | None = None
    ) -> Read:
        """Run forward–backward over utterances.

        Parameters
        ----------
        log_probs : sequence of ndarray, each (S, V)
            Natural logarithms of the generator's probabilities.
        threads : int
        others : sequence of ndarray or None, each (S, V)
            Weighted log-likelihoods by another model, which are added; the gain is then no measure.
        """
        voiced = [np.exp(rows[:, PAUSE]) < PAUSE_ABOVE for rows in log_probs]
        lengths = [int(mask.sum()) for mask in voiced]
        n_voiced = sum(lengths)
        posteriors = [_only_pauses(len(rows), rows.shape[1]) for rows in log_probs]
        if n_voiced == 0:
            return Read(posteriors, 0.0, 0)
        states = self.language.phones
        prior = self.prior[states] / self.prior[states].sum()
        kept = np.concatenate(
            [rows[mask][:, states] for rows, mask in zip(log_probs, voiced, strict=True)]
        )
        # Among phones alone: a frame must not count as understood because it is no pause.
        kept = log_softmax(np.ascontiguousarray(kept), axis=1)
        scores = self.power * (kept - np.log(prior + PRIOR_FLOOR))  # (S', V')
        if others is not None:
            scores += np.concatenate(
                [rows[mask][:, states] for rows, mask in zip(others, voiced, strict=True)]
            )
        best = scores.max(axis=1, keepdims=True)
        found = np.zeros(scores.shape, dtype=np.float32)
        with ThreadPoolExecutor(threads) as pool:
            expectations = expect(
                3,
                np.arange(n_voiced, dtype=np.int32),
                np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
                np.exp(scores - best).astype(np.float32),
                self.language.transitions,
                self.stay,
                found,
                pool,
            )
        pieces = np.split(found, np.cumsum(lengths)[:-1])
        for rows, mask, piece in zip(posteriors, voiced, pieces, strict=True):
            rows[np.flatnonzero(mask)[:, None], states] = piece
            rows[mask, PAUSE] = 0
        gain = expectations.log_likelihood + float(best.sum(dtype=np.float64))
        return Read(posteriors, gain, n_voiced)

    def likelihoods(self, log_probs: Floats) -> Floats:
        """Return the weighted log-likelihoods of frames under every output, (S, V).

        They are those that `read` goes by, up to a number for every frame; the pause is an output
        like others here, for a search that says itself where people pause.
        """
        scores: Floats = self.power * (log_probs - np.log(self.prior + PRIOR_FLOOR))
        return scores

    def save(self, path: Path) -> None:
        """Write the model to one safetensors file."""
        transitions = self.language.transitions
        save_checkpoint(
            path,
            {
                "phones": torch.from_numpy(self.language.phones),
                "unigram": torch.from_numpy(transitions.unigram),
                "bigram": torch.from_numpy(transitions.bigram),
                "trigram": torch.from_numpy(transitions.trigram),
                "prior": torch.from_numpy(self.prior),
                "power": self.power,
                "stay": self.stay,
            },
        )

    @classmethod
    def load(cls, path: Path) -> FrameHmm:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file is missing, damaged, or holds no such model.
        """
        state = load_checkpoint(path)
        try:
            transitions = PhoneTransitions(
                *(state[name].numpy() for name in ("unigram", "bigram", "trigram"))
            )
            model = cls(
                CodeLanguage(state["phones"].numpy(), transitions),
                state["prior"].numpy(),
                float(state["power"]),
                float(state["stay"]),
            )
            n = len(model.language.phones)
            shapes = [table.shape for table in (transitions.unigram, transitions.bigram)]
            if [*shapes, transitions.trigram.shape] != [(n,), (n, n), (n, n + 1, n)]:
                raise ValueError("its tables do not fit its phones")
            return model
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: holds no model of frames; run the matching again") from error


def mean_probabilities(log_probs: Iterable[Floats]) -> Floats:
    """Return the share of frames that a generator gives to each output, shape (V,)."""
    total: NDArray[np.float64] | float = 0.0
    for rows in log_probs:
        total = total + np.exp(rows, dtype=np.float64).sum(axis=0)
    shares: Floats = (np.asarray(total) / np.sum(total)).astype(np.float32)
    return shares


def _only_pauses(length: int, outputs: int) -> Floats:
    rows = np.zeros((length, outputs), dtype=np.float32)
    rows[:, PAUSE] = 1
    return rows
