"""From phones to letters, for words that the text does not hold.

A joint n-gram model (Bisani and Ney 2008, *Joint-sequence models for grapheme-to-phoneme
conversion*, turned around): words of the lexicon are cut into pieces that are spelled and said
together, and an n-gram model says how such pieces follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.text.joint_units import JointUnit, align
from wav2vec_u.text.lexicon import Lexicon, Phones
from wav2vec_u.text.ngram import NgramModel
from wav2vec_u.text.ngram_table import END, FIRST_SYMBOL, START, NgramTable

SPELLING_NAME = "spelling.arpa"
ORDER = 4
MOST_WORDS = 10_000  # learned from, drawn at random
BEAM = 10  # beginnings of the word that are kept for every number of phones
_PHONES, _LETTERS = "_", "}"  # between phones, and between phones and letters, in names of units


class Speller:
    """Writes phones in the letters of a language.

    Parameters
    ----------
    model : NgramModel
        Over joint units, whose names are those of its symbols.

    Raises
    ------
    ValueError
        If a symbol is no joint unit.

    Examples
    --------
    >>> words = {"tea": ("t", "i"), "sea": ("s", "i"), "set": ("s", "e", "t")}
    >>> Speller.learn(Lexicon(words), seed=0).spell(("t", "i", "t"))
    'teat'
    """

    def __init__(self, model: NgramModel) -> None:
        self._model = model
        self._base = len(model.symbols_) + FIRST_SYMBOL
        self._tables = [_lookup(table) for table in model.tables_]
        self._letters: list[str] = []
        self._units: dict[Phones, list[int]] = {}
        for number, name in enumerate(model.symbols_):
            unit = _read(name)
            self._letters.append(unit.letters)
            self._units.setdefault(unit.phones, []).append(number + FIRST_SYMBOL)
        self._longest = max(map(len, self._units), default=0)
        self._spelled: dict[Phones, str | None] = {}

    @classmethod
    def learn(cls, lexicon: Lexicon, seed: int) -> Speller:
        """Learn how the words of a lexicon are spelled.

        Raises
        ------
        UserError
            If no word of it can be cut into phones and letters that belong together.
        """
        words = [word for word in lexicon if _can_be_named(word, lexicon[word])]
        if len(words) > MOST_WORDS:
            order = numpy_generator(seed, "words to spell").permutation(len(words))
            words = [words[place] for place in sorted(order[:MOST_WORDS].tolist())]
        units, cuts = align([(word, lexicon[word]) for word in words])
        cuts = [cut for cut in cuts if len(cut)]
        if not cuts:
            raise UserError("graph: no word of the lexicon can be spelled by its phones")
        used = np.unique(np.concatenate(cuts))  # sorted
        names = [_name(units[number]) for number in used.tolist()]
        model = NgramModel(ORDER).fit((np.searchsorted(used, cut) for cut in cuts), names)
        return cls(model)

    def spell(self, phones: Sequence[str]) -> str | None:
        """Return the likeliest spelling; None where a phone stands in no word.

        Parameters
        ----------
        phones : sequence of str
            At least one.
        """
        said = tuple(phones)
        if said not in self._spelled:
            self._spelled[said] = self._search(said)
        return self._spelled[said]

    def _search(self, said: Phones) -> str | None:
        beams: list[dict[tuple[int, ...], _Beginning]] = [{} for _ in range(len(said) + 1)]
        beams[0][(START,)] = _Beginning(0.0, "")
        for at in range(len(said)):
            best = sorted(beams[at].items(), key=lambda item: -item[1].log10_prob)[:BEAM]
            for context, beginning in best:
                for length in range(1, min(self._longest, len(said) - at) + 1):
                    for token in self._units.get(said[at : at + length], []):
                        log10_prob = beginning.log10_prob + self._log10_prob(context, token)
                        kept = (*context, token)[1 - self._model.order :]
                        known = beams[at + length].get(kept)
                        if known is None or known.log10_prob < log10_prob:
                            letters = beginning.letters + self._letters[token - FIRST_SYMBOL]
                            beams[at + length][kept] = _Beginning(log10_prob, letters)
        whole = [
            (beginning.log10_prob + self._log10_prob(context, END), beginning.letters)
            for context, beginning in beams[-1].items()
            if beginning.letters
        ]
        return max(whole)[1] if whole else None

    def save(self, folder: Path) -> None:
        """Write the model as ``spelling.arpa``."""
        self._model.write_arpa(folder / SPELLING_NAME)

    @classmethod
    def load(cls, folder: Path) -> Speller:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If it is missing or damaged.
        """
        path = folder / SPELLING_NAME
        try:
            return cls(NgramModel.read_arpa(path))
        except ValueError as error:
            raise UserError(
                f"{path}: is no model of spelling; run the graph stage again"
            ) from error

    def _log10_prob(self, context: tuple[int, ...], token: int) -> float:
        """Return log10 p(token | context), with backoff."""
        backoff = 0.0
        for first in range(len(context) + 1):
            seen = context[first:]
            found = self._tables[len(seen)].get(self._key((*seen, token)))
            if found is not None:
                return backoff + found[0]
            if seen:
                backoff += self._tables[len(seen) - 1].get(self._key(seen), (0.0, 0.0))[1]
        raise AssertionError("every unit of the model has a unigram")

    def _key(self, tokens: tuple[int, ...]) -> int:
        key = 0
        for token in tokens:
            key = key * self._base + token
        return key


@dataclass(frozen=True)
class _Beginning:
    """Letters of the first phones of a word."""

    log10_prob: float
    letters: str


def _lookup(table: NgramTable) -> dict[int, tuple[float, float]]:
    values = zip(table.log10_probs.tolist(), table.log10_backoffs.tolist(), strict=True)
    return dict(zip(table.keys.tolist(), values, strict=True))


def _can_be_named(word: str, phones: Phones) -> bool:
    marks = {_PHONES, _LETTERS}
    return marks.isdisjoint(word) and all(marks.isdisjoint(phone) for phone in phones)


def _name(unit: JointUnit) -> str:
    return _PHONES.join(unit.phones) + _LETTERS + unit.letters


def _read(name: str) -> JointUnit:
    phones, mark, letters = name.partition(_LETTERS)
    if not mark:
        raise ValueError(f"{name!r} is no joint unit")
    return JointUnit(tuple(phones.split(_PHONES)), letters)
