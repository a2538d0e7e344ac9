"""How well what a generator says explains the recordings: a noisy channel.

A language sends phones, and the recordings answer with a cluster code for every segment. If a
generator is right, few codes stand for each of its phones, *and* the phones follow each other as
in the text; then the codes are likely. One that has collapsed explains no code, and one that talks
fluently about nothing has codes of all kinds for each phone. Both halves of the recordings are
judged by what was counted on the other.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.matching.batches import SegmentSource
from wav2vec_u.matching.decipherment import SMOOTHING, CodeLanguage
from wav2vec_u.matching.frame_hmm import PAUSE, PAUSE_ABOVE
from wav2vec_u.matching.generator import Generator, log_probs
from wav2vec_u.matching.ngram_hmm import expect
from wav2vec_u.segments.kmeans import KMeans

LEAST_SEGMENTS_A_CODE = 10  # fewer tell nothing about which phones a code stands for


class Channel:
    """The codes of some recordings, to judge generators by.

    Parameters
    ----------
    segments : SegmentSource
    utterances : list of int
        Of `segments`.
    language : CodeLanguage
    n_codes : int
        At most; less for few recordings.
    stay : float
        Probability that a segment goes on with the phone of the one before it.
    seed : int
        Of the clustering.
    threads : int
    """

    def __init__(
        self,
        segments: SegmentSource,
        utterances: list[int],
        language: CodeLanguage,
        *,
        n_codes: int,
        stay: float,
        seed: int,
        threads: int,
    ) -> None:
        self._segments = segments
        self._utterances = utterances
        self._language = language
        self._stay = stay
        self._threads = threads
        count = sum(len(segments.vectors(i)) for i in utterances)
        self._n_codes = max(2, min(n_codes, count // LEAST_SEGMENTS_A_CODE))
        kmeans = KMeans(n_clusters=self._n_codes, n_iterations=25, n_restarts=1, seed=seed)
        kmeans.fit(lambda: (segments.vectors(i) for i in utterances))
        self._codes = [kmeans.predict(segments.vectors(i)) for i in utterances]

    def gain(self, generator: Generator) -> float:
        """Return how much a generator explains.

        Returns
        -------
        float
            Nats a segment by which the codes are likelier than if every code were drawn by its
            frequency alone; segments that the generator takes for a pause are not explained.
        """
        said = [self._said(generator, i) for i in self._utterances]
        halves = [range(first, len(said), 2) for first in (0, 1)]
        total = 0.0
        for counted, judged in (halves, halves[::-1]):
            counts = np.zeros((self._n_codes, len(self._language.phones)))
            for i in counted:
                spoken = self._spoken(said[i])
                np.add.at(counts, self._codes[i][spoken], said[i][spoken][:, self._language.phones])
            total += self._log_likelihood(counts, [said[i] for i in judged], judged)
        return total / max(1, sum(map(len, said)))

    def _said(self, generator: Generator, i: int) -> NDArray[np.float32]:
        """Return the generator's probabilities (S, V) of every segment."""
        vectors = self._segments.vectors(i)
        found = np.exp(log_probs(generator, vectors))
        return np.repeat(found, generator.stride, axis=0)[: len(vectors)]

    def _spoken(self, said: NDArray[np.float32]) -> NDArray[np.bool_]:
        spoken: NDArray[np.bool_] = said[:, PAUSE] < PAUSE_ABOVE
        return spoken

    def _log_likelihood(
        self, counts: NDArray[np.float64], said: list[NDArray[np.float32]], judged: range
    ) -> float:
        frequency = counts.sum(1) + SMOOTHING
        frequency /= frequency.sum()
        emissions = counts + SMOOTHING * frequency[:, None]
        relative = emissions / emissions.sum(0) / frequency[:, None]
        codes = [self._codes[i][self._spoken(rows)] for i, rows in zip(judged, said, strict=True)]
        lengths = [len(item) for item in codes]
        if sum(lengths) == 0:
            return 0.0
        with ThreadPoolExecutor(self._threads) as pool:
            found = expect(
                3,
                np.concatenate(codes).astype(np.int32),
                np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
                relative.astype(np.float32),
                self._language.transitions,
                self._stay,
                np.zeros((sum(lengths), len(self._language.phones)), np.float32),
                pool,
            )
        return found.log_likelihood
