"""A made-up language: phones, a lexicon with Zipf frequencies, and sentences.

Words are built of syllables whose onsets, vowels and codas have unequal frequencies, and sentences
follow sparse word bigrams, so that the language has the structure at every range from which
matching without labels lives. Everything depends on the seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.runtime.seeds import numpy_generator

CONSONANTS = ("p", "t", "k", "b", "d", "g", "m", "n", "s", "f", "v", "z", "l", "r", "j", "w", "h")
VOWELS = ("a", "e", "i", "o", "u", "y", "ø", "ɛ")
SILENCE = "<SIL>"


@dataclass(frozen=True)
class Language:
    """A synthetic language.

    Attributes
    ----------
    phones : tuple of str
        Inventory; `SILENCE` comes first, as in `text.corpus.PhoneText`.
    lexicon : dict of str to tuple of str
        Spelling to phones. Words differ in their phones as well as in their spelling.
    successors : ndarray
        (W, W) float64: probability of the next word given the last.
    seed : int
        What it was made from.
    """

    phones: tuple[str, ...]
    lexicon: dict[str, tuple[str, ...]]
    successors: NDArray[np.float64]
    seed: int

    def sentences(self, count: int, purpose: str) -> list[list[str]]:
        """Draw sentences of 3 to 9 words; another `purpose` draws others.

        Returns
        -------
        list of list of str
            Words of every sentence, as spelt.
        """
        rng = numpy_generator(self.seed, "sentences", purpose)
        words = list(self.lexicon)
        cumulative = self.successors.cumsum(axis=1)
        drawn = []
        for _ in range(count):
            word = int(rng.integers(len(words)))
            sentence = []
            for chance in rng.random(rng.integers(3, 10)):
                word = min(int(np.searchsorted(cumulative[word], chance)), len(words) - 1)
                sentence.append(words[word])
            drawn.append(sentence)
        return drawn

    def phone_ids(self, word: str) -> list[int]:
        """Return a word's phones as indices into `phones`."""
        return [self.phones.index(phone) for phone in self.lexicon[word]]


def make_language(
    seed: int, *, n_consonants: int = 14, n_vowels: int = 6, n_words: int = 200
) -> Language:
    """Make a language up.

    Parameters
    ----------
    seed : int
        The same seed makes the same language.
    n_consonants, n_vowels : int
        At most 17 and 8.
    n_words : int
        Size of the lexicon; word frequencies follow Zipf's law.
    """
    rng = numpy_generator(seed, "language")
    consonants = [str(phone) for phone in rng.permutation(CONSONANTS)[:n_consonants]]
    vowels = [str(phone) for phone in rng.permutation(VOWELS)[:n_vowels]]
    clusters = [
        (str(first), str(second))
        for first, second in rng.choice(consonants, size=(4, 2))
        if first != second
    ]
    onsets: list[tuple[str, ...]] = [*((phone,) for phone in consonants), (), *clusters]
    codas: list[tuple[str, ...]] = [(), *((str(c),) for c in rng.permutation(consonants)[:6])]
    # A phone follows some phones much more readily than others: that is what gives it away.
    onset_odds = rng.dirichlet(np.full(len(onsets), 1.5))
    vowel_odds = rng.dirichlet(np.full(len(vowels), 0.6), size=len(onsets))
    coda_odds = rng.dirichlet(np.full(len(codas), 0.6), size=len(vowels))

    lexicon: dict[str, tuple[str, ...]] = {}
    known: set[tuple[str, ...]] = set()
    while len(lexicon) < n_words:
        phones: list[str] = []
        for _ in range(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2])):
            onset = rng.choice(len(onsets), p=onset_odds)
            vowel = rng.choice(len(vowels), p=vowel_odds[onset])
            coda = rng.choice(len(codas), p=coda_odds[vowel])
            phones += [*onsets[onset], vowels[vowel], *codas[coda]]
        spoken = tuple(
            phone for place, phone in enumerate(phones) if place == 0 or phone != phones[place - 1]
        )
        if len(spoken) > 1 and spoken not in known:
            known.add(spoken)
            lexicon["".join(spoken)] = spoken

    zipf = 1.0 / np.arange(1, n_words + 1)
    affinity = rng.gamma(0.3, size=(n_words, n_words)) * zipf
    successors = affinity / affinity.sum(axis=1, keepdims=True)
    phones_used = sorted({phone for spoken in lexicon.values() for phone in spoken})
    return Language((SILENCE, *phones_used), lexicon, successors, seed)
