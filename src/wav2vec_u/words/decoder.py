"""From the segments of an utterance to its words, with times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec_u.config import WordsConfig
from wav2vec_u.decode.stage import load_hmm, output_times
from wav2vec_u.decode.transcript import WordSpan
from wav2vec_u.matching.frame_hmm import PRIOR_FLOOR
from wav2vec_u.matching.generator import GENERATOR_NAME, Generator, load_generator, log_probs
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.text.lexicon import read_lexicon
from wav2vec_u.words.search import WordSearch

PRIOR_NAME = "prior.safetensors"


@dataclass(frozen=True)
class WordDecoder:
    """What turns segments into words.

    Attributes
    ----------
    generator : Generator
    prior : (V,) float32
        Share of segments that the generator gives to each output.
    power : float
        Exponent of the likelihoods.
    search : WordSearch
    """

    generator: Generator
    prior: NDArray[np.float32]
    power: float
    search: WordSearch

    @classmethod
    def load(cls, words: Path, matching: Path, text: Path, config: WordsConfig) -> WordDecoder:
        """Put together what the stages have made; `words` may still be in the making.

        Raises
        ------
        UserError
            If a file is missing or damaged, or they do not belong together.
        """
        search = WordSearch(words, read_lexicon(text), config.beam, config.max_active)
        if search.phones != PhoneText(text).phones:
            raise UserError(f"{words}: is of another text; run the words stage again")
        prior = load_checkpoint(words / PRIOR_NAME)["prior"].numpy()
        generator = load_generator(matching / GENERATOR_NAME)
        return cls(generator, prior, config.power, search)

    def decode(
        self, vectors: NDArray[np.float32], times: NDArray[np.float32]
    ) -> tuple[WordSpan, ...] | None:
        """Find the words of one utterance; None if no sequence of words fits it.

        Parameters
        ----------
        vectors : (S, P) float32
        times : (S, 2) float32
            Seconds of the original recording.
        """
        if len(vectors) == 0:
            return ()
        times = output_times(times, self.generator.stride)
        scores = log_probs(self.generator, vectors)[: len(times)]  # (S', V)
        found = self.search.find(self.power * (scores - np.log(self.prior + PRIOR_FLOOR)))
        if found is None:
            return None
        return tuple(
            WordSpan(item.word, float(times[item.first, 0]), float(times[item.end - 1, 1]))
            for item in found
        )


def save_prior(folder: Path, prior: NDArray[np.float32]) -> None:
    """Write the prior for `WordDecoder.load`."""
    save_checkpoint(folder / PRIOR_NAME, {"prior": torch.from_numpy(prior)})


def stay_of(matching: Path, otherwise: float) -> float:
    """Return how likely a segment goes on with the phone of the one before it."""
    hmm = load_hmm(matching)
    return otherwise if hmm is None else hmm.stay
