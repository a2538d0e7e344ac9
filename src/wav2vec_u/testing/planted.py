"""Planted features: segment vectors whose phones are known.

Every phone has a random vector; an utterance is the vectors of its phones, some of them said over
several segments, with Gaussian noise. The text comes from other sentences of the same language.
`PlantedSegments` and `PlantedText` stand in for `segments.store.SegmentStore` and
`text.corpus.PhoneText` without any file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.testing.language import Language


class PlantedSegments:
    """Utterances in memory, with the phone of every segment.

    Parameters
    ----------
    vectors : list of ndarray
        (S_i, P) float32 of every utterance.
    labels : list of ndarray
        (S_i,) phone id of every segment.
    splits : list of str
        Split of every utterance.
    """

    def __init__(
        self,
        vectors: list[NDArray[np.float32]],
        labels: list[NDArray[np.int64]],
        splits: list[str],
    ) -> None:
        self._vectors = vectors
        self._labels = labels
        self.splits = splits
        self.ids = [f"planted-{index:04d}" for index in range(len(vectors))]
        self.speakers: list[str | None] = [None] * len(vectors)
        self.dim = int(vectors[0].shape[1])

    def __len__(self) -> int:
        return len(self._vectors)

    def vectors(self, i: int) -> NDArray[np.float32]:
        """Return the (S, P) vectors of utterance `i`."""
        return self._vectors[i]

    def labels(self, i: int) -> NDArray[np.int64]:
        """Return the (S,) true phone of every segment, silence included."""
        return self._labels[i]

    def truth(self, i: int) -> NDArray[np.int64]:
        """Return the phones that were said: repeats merged, silence left out."""
        labels = self._labels[i]
        merged: NDArray[np.int64] = labels[np.r_[True, labels[1:] != labels[:-1]]]
        spoken: NDArray[np.int64] = merged[merged != 0]
        return spoken


class PlantedText:
    """Sentences of phone ids with word boundaries, in memory.

    Parameters
    ----------
    phones : sequence of str
        Inventory; the first one is the silence.
    sentences : list of list of ndarray
        Words of every sentence as phone ids.
    silence_probability : float
        Of a silence between two words; both ends always have one.
    """

    def __init__(
        self,
        phones: tuple[str, ...],
        sentences: list[list[list[int]]],
        silence_probability: float = 0.25,
    ) -> None:
        self.phones = list(phones)
        self._sentences = sentences
        self._silence_probability = silence_probability

    def __len__(self) -> int:
        return len(self._sentences)

    @property
    def words(self) -> list[list[list[int]]]:
        """The words of every sentence as phone ids."""
        return self._sentences

    def sentence(self, i: int) -> NDArray[np.int32]:
        """Return the phone ids of sentence `i` without silence."""
        return np.array([phone for word in self._sentences[i] for phone in word], dtype=np.int32)

    def sentence_with_silence(self, i: int, rng: np.random.Generator) -> NDArray[np.int32]:
        """Return the phone ids of sentence `i`, silence drawn anew."""
        return np.array(
            add_silence(self._sentences[i], self._silence_probability, rng), dtype=np.int32
        )

    def sample_batch(
        self, rng: np.random.Generator, size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return `size` random sentences as ids (B, L), zero behind them, and lengths (B,)."""
        rows = [self.sentence_with_silence(int(i), rng) for i in rng.integers(len(self), size=size)]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        ids = np.zeros((size, int(lengths.max())), dtype=np.int64)
        for row, sentence in enumerate(rows):
            ids[row, : len(sentence)] = sentence
        return ids, lengths


@dataclass(frozen=True)
class Planted:
    """Speech and unpaired text of one language.

    Attributes
    ----------
    segments : PlantedSegments
        What was said, as vectors.
    text : PlantedText
        Other sentences of the language.
    centres : ndarray
        (V, P) float32 vector of every phone, without noise.
    """

    segments: PlantedSegments
    text: PlantedText
    centres: NDArray[np.float32]


def plant(
    language: Language,
    *,
    utterances: int = 400,
    sentences: int = 4_000,
    dim: int = 32,
    noise: float = 0.3,
    repeats: float = 0.3,
    silence_probability: float = 0.25,
    test_share: float = 0.1,
    seed: int = 0,
) -> Planted:
    """Make features that hold the truth.

    Parameters
    ----------
    language : Language
        Where sentences come from.
    utterances, sentences : int
        Amount of speech and of text; they share no draw.
    dim : int
        P, size of a vector; phone vectors are Gaussian with variance 1 in every dimension.
    noise : float
        Standard deviation of the noise in every dimension.
    repeats : float
        Probability that a phone goes on for another segment.
    silence_probability : float
        Of a silence between words, in speech and in text.
    test_share : float
        Share of the utterances in split ``test``.
    seed : int
        Seed of vectors, noise and repeats.
    """
    rng = numpy_generator(seed, "planted")
    centres = rng.standard_normal((len(language.phones), dim)).astype(np.float32)
    vectors, labels = [], []
    for sentence in language.sentences(utterances, "speech"):
        words = [language.phone_ids(word) for word in sentence]
        phones = np.array(add_silence(words, silence_probability, rng), dtype=np.int64)
        label = np.repeat(phones, rng.geometric(1 - repeats, size=len(phones)))
        labels.append(label)
        spread = noise * rng.standard_normal((len(label), dim))
        vectors.append((centres[label] + spread).astype(np.float32))
    first_test = round(utterances * (1 - test_share))
    splits = ["train"] * first_test + ["test"] * (utterances - first_test)
    written = [
        [language.phone_ids(word) for word in sentence]
        for sentence in language.sentences(sentences, "text")
    ]
    return Planted(
        PlantedSegments(vectors, labels, splits),
        PlantedText(language.phones, written, silence_probability),
        centres,
    )


def add_silence(words: list[list[int]], probability: float, rng: np.random.Generator) -> list[int]:
    """Join words with silence (0) at both ends and, by chance, between them."""
    joined = [0, *words[0]]
    for word, chance in zip(words[1:], rng.random(len(words) - 1), strict=True):
        joined += [0, *word] if chance < probability else word
    return [*joined, 0]
