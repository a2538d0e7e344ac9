"""Beam search for the best words and all that are near them, with the frames of their phones."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.graph.beam_search import search_lattice
from wav2vec_u.graph.build import PHONES_NAME, SILENCE_LABEL, STAY
from wav2vec_u.graph.fragments import goes_on, is_fragment, join
from wav2vec_u.graph.lattice import Lattice, WordPosteriors
from wav2vec_u.graph.lattice import Path as LatticePath
from wav2vec_u.graph.transducer import Transducer
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.lexicon import read_lexicon

_WIDER = 2.0  # factor on the beam where every path was lost
_TRIES = 3
_SCALE = 0.5  # of the costs, for what is likely: the best path is far too sure (measured)
_SILENCE = SILENCE_LABEL - 1  # output of the generator


@dataclass(frozen=True)
class FoundWord:
    """A word, its frames, and how likely it is.

    Attributes
    ----------
    word : str
        One that the text does not hold is written as its phones, in angle brackets;
        `words.decoder` spells it.
    first, end : int
        The first frame, and the one after the last.
    confidence : float
        Probability that it was said about there, whatever the words around it; of a word made of
        fragments, that of the least likely.
    """

    word: str
    first: int
    end: int
    confidence: float = field(default=1.0, compare=False)


@dataclass(frozen=True)
class Found:
    """What was found in the graph: the best path, and how likely each phone is.

    Attributes
    ----------
    words : tuple of FoundWord
        In time order.
    labels : (T,) int32
        Output of the generator in every frame.
    starts : (T,) bool
        Frames in which a phone or a pause begins; equal neighbours may be two phones.
    posteriors : (T, V) float32
        p(output | all frames), all word sequences that are not far from the best taken together,
        with costs halved, and as if words did not cost anything.
    behind : float
        How much more it costs than the best, nats.
    """

    words: tuple[FoundWord, ...]
    labels: NDArray[np.int32]
    starts: NDArray[np.bool_]
    posteriors: NDArray[np.float32]
    behind: float = 0.0

    def phones(self) -> list[tuple[int, int, int]]:
        """Return output, first frame and the frame after the last one of every phone."""
        bounds = [*np.flatnonzero(self.starts).tolist(), len(self.labels)]
        return [
            (int(self.labels[first]), first, end)
            for first, end in pairwise(bounds)
            if self.labels[first] != _SILENCE
        ]

    def likeliest_phones(self) -> list[tuple[int, int, int]]:
        """Return the same of the phones that are likeliest frame by frame, whatever the words.

        Where several words are possible, these are what they have in common. Equal neighbours are
        one phone, unless the best path has two there.
        """
        best = self.posteriors.argmax(axis=1)
        begins = np.ones(len(best), bool)
        on_path = self.labels == best
        twice = self.starts[1:] & on_path[1:] & on_path[:-1]
        begins[1:] = twice | (best[1:] != best[:-1])
        bounds = [*np.flatnonzero(begins).tolist(), len(best)]
        return [
            (int(best[first]), first, end)
            for first, end in pairwise(bounds)
            if best[first] != _SILENCE
        ]


class WordSearch:
    """The search through a decoding graph.

    Parameters
    ----------
    graph : Path
        Finished graph stage.
    beam : float
        Paths that cost so much more than the best are dropped, nats.
    lattice_beam : float
        Word sequences that cost so much more than the best, nats, still count for what is likely.
    max_active : int
        Most states that are followed from frame to frame, however wide the beam: where frames say
        next to nothing, most of the graph is within any beam.
    word_cost : float
        Nats that every word costs beside what the word model says.
    scale : float
        Factor on the likelihoods: the lower, the more the word model counts.
    stay : float
        Probability that a phone goes on for another frame.

    Raises
    ------
    UserError
        If the graph is missing or damaged.
    """

    def __init__(
        self,
        graph: Path,
        beam: float,
        lattice_beam: float,
        max_active: int,
        word_cost: float = 0.0,
        scale: float = 1.0,
        stay: float = STAY,
    ) -> None:
        self._graph = Transducer.load(graph)
        lexicon = read_lexicon(graph)
        self.phones = _read_phones(graph)
        self._words = list(lexicon)
        self._lengths = [len(lexicon[word]) for word in lexicon]
        self._beam = beam
        self._lattice_beam = lattice_beam
        self._max_active = max_active
        self._word_cost = word_cost
        self._scale = scale
        # What the graph says of how long phones last is taken back, a frame and a phone at a time.
        self._again = math.log(STAY) - math.log(stay)
        self._anew = math.log(1 - STAY) - math.log(1 - stay)

    def find(self, scores: NDArray[np.float32]) -> Found | None:
        """Find the best words of one utterance.

        Parameters
        ----------
        scores : (T, V) float32
            Log-likelihoods of the frames, up to a constant of the frame.

        Returns
        -------
        Found or None
            None where even the widest beam lost every path, as in an utterance of fewer frames than
            any word has phones.
        """
        found = self.find_several(scores, 1)
        return found[0] if found else None

    def find_several(self, scores: NDArray[np.float32], number: int) -> list[Found]:
        """Find the best word sequences of one utterance, the best first.

        Parameters
        ----------
        scores : (T, V) float32
            As `find` takes them.
        number : int
            Of word sequences, at most; there are fewer where no others are within the beams.
        """
        if len(scores) == 0:
            return [Found((), np.zeros(0, np.int32), np.zeros(0, np.bool_), scores)]
        lattice = self.search(scores)
        if lattice is None:
            return []
        n_frames, n_outputs = scores.shape
        # What a word costs makes for better words, and not for better phones (measured).
        free = lattice.without_word_cost(self._word_cost, n_outputs)
        posteriors = free.posteriors(n_frames, n_outputs, _SCALE)
        heard = lattice.words_heard(_SCALE)
        paths = lattice.best(number)
        found: dict[tuple[str, ...], Found] = {}
        for path in paths:
            item = self._read(path, posteriors, heard, path.cost - paths[0].cost)
            # The fragments of an unknown word may be cut in several ways.
            found.setdefault(tuple(word.word for word in item.words), item)
        return list(found.values())

    def search(self, scores: NDArray[np.float32]) -> Lattice | None:
        """Find all word sequences that are not far from the best; None where none fits.

        Parameters
        ----------
        scores : (T, V) float32
            As `find` takes them.
        """
        by_label = self._by_label(scores)
        for attempt in range(_TRIES):
            lattice = search_lattice(
                self._graph,
                by_label,
                self._beam * _WIDER**attempt,
                self._lattice_beam,
                self._max_active,
            )
            if lattice is not None:
                return lattice
        return None

    def _by_label(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores of the graph's labels, (T, 3 V): see `graph.build`."""
        scaled = self._scale * scores
        begins = scaled - self._anew
        columns = [begins, begins - self._word_cost, scaled - self._again]
        return np.ascontiguousarray(np.concatenate(columns, axis=1), dtype=np.float32)

    def _read(
        self,
        path: LatticePath,
        posteriors: NDArray[np.float32],
        heard: WordPosteriors,
        behind: float,
    ) -> Found:
        n_phones = posteriors.shape[1]
        labels, starts = (path.labels - 1) % n_phones, path.labels <= 2 * n_phones
        found = Found((), labels, starts, posteriors, behind)
        spoken = found.phones()
        # The path says its words in order, each as the phones of its pronunciation.
        placed: list[FoundWord] = []
        fragments: list[FoundWord] = []
        place = 0
        for number in path.words:
            name, length = self._words[number - 1], self._lengths[number - 1]
            _, first, _ = spoken[place]
            _, _, end = spoken[place + length - 1]
            place += length
            word = FoundWord(name, first, end, heard.of(number, first, end))
            if not is_fragment(name):
                placed.append(word)
                continue
            fragments.append(word)
            if not goes_on(name):
                placed.append(_joined(fragments))
                fragments = []
        return replace(found, words=tuple(placed))


def require_phones(graph: Path, phones: Sequence[str]) -> None:
    """Refuse a graph that was built with other phones.

    Raises
    ------
    UserError
        If they differ, or the graph is missing or damaged.
    """
    if _read_phones(graph) != list(phones):
        raise UserError(f"{graph}: is of another text; run the graph stage again")


def _read_phones(graph: Path) -> list[str]:
    path = graph / PHONES_NAME
    try:
        phones: list[str] = json.loads(path.read_text(encoding="utf-8"))
        return phones
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is missing or damaged; run the graph stage again") from error


def _joined(fragments: list[FoundWord]) -> FoundWord:
    names = [item.word for item in fragments]
    confidence = min(item.confidence for item in fragments)
    return FoundWord(join(names), fragments[0].first, fragments[-1].end, confidence)
