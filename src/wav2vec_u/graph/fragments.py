"""Words that the text does not hold, as sequences of fragments.

A flat hybrid model (Bisani and Ney 2005, *Open vocabulary speech recognition with flat hybrid
models*): fragments are phone sequences that stand in the language model beside the words. What is
unknown is learned from what is rare, since both are names, compounds and inflections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from wav2vec_u.text.lexicon import Lexicon, Phones

LONGEST = 3  # phones of a fragment
_FIRST, _LAST, _GOES_ON = "⟨", "⟩", "+"


class Fragments:
    """Phone sequences of which unknown words are put together.

    Parameters
    ----------
    words : iterable of tuple of str
        Pronunciations of rare words.
    phones : iterable of str
        All phones; each is a fragment, so that every word can be put together.
    count : int
        Longer fragments, the most frequent ones.

    Examples
    --------
    >>> fragments = Fragments([("b", "a", "n"), ("b", "a", "t")], ["a", "b", "n", "t"], count=1)
    >>> fragments.split(("b", "a", "n", "a"))
    ['⟨b_a⟩+', '⟨n⟩+', '⟨a⟩']
    >>> fragments.lexicon()["⟨b_a⟩+"]
    ('b', 'a')
    """

    def __init__(self, words: Iterable[Phones], phones: Iterable[str], count: int) -> None:
        counts: Counter[Phones] = Counter()
        for word in words:
            for length in range(2, LONGEST + 1):
                counts.update(word[at : at + length] for at in range(len(word) - length + 1))
        # Sorted, so that equal counts do not leave it to chance.
        ranked = sorted(counts, key=lambda unit: (-counts[unit], unit))
        self._units = {(phone,) for phone in phones} | set(ranked[:count])

    def split(self, word: Phones) -> list[str]:
        """Write a word in fragments, the longest first from the left."""
        names = []
        at = 0
        while at < len(word):
            length = next(
                length
                for length in range(min(LONGEST, len(word) - at), 0, -1)
                if word[at : at + length] in self._units
            )
            names.append(_name(word[at : at + length], at + length < len(word)))
            at += length
        return names

    def lexicon(self) -> Lexicon:
        """Pronunciations of all fragments, at the end of a word and before it."""
        units = sorted(self._units)
        return Lexicon({_name(unit, goes_on): unit for unit in units for goes_on in (False, True)})


def is_fragment(name: str) -> bool:
    """Tell whether an entry of the graph's lexicon is a fragment."""
    return name.startswith(_FIRST)


def goes_on(name: str) -> bool:
    """Tell whether a fragment's word does not end with it.

    >>> goes_on("⟨b_a⟩+"), goes_on("⟨n⟩"), goes_on("c++")
    (True, False, False)
    """
    return is_fragment(name) and name.endswith(_GOES_ON)


def join(names: Iterable[str]) -> str:
    """Write the fragments of one word as its phones.

    >>> join(["⟨b_a⟩+", "⟨n⟩"])
    '⟨ban⟩'
    """
    phones = (name.removesuffix(_GOES_ON)[len(_FIRST) : -len(_LAST)] for name in names)
    return _FIRST + "".join(phones).replace("_", "") + _LAST


def _name(unit: Phones, goes_on: bool) -> str:
    return _FIRST + "_".join(unit) + _LAST + (_GOES_ON if goes_on else "")
