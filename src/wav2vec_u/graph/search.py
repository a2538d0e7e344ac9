"""Beam search for the best words and all that are near them, with the frames of their phones."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.graph.build import FST_NAME, PHONES_NAME, SILENCE_LABEL
from wav2vec_u.graph.fragments import goes_on, is_fragment, join
from wav2vec_u.graph.lattice import Lattice
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.lexicon import read_lexicon

_WIDER = 2.0  # factor on the beam where every path was lost
_TRIES = 3
_MOST_ACTIVE = 8_000  # states held at once in a wider beam
_SILENCE = SILENCE_LABEL - 1  # output of the generator


@dataclass(frozen=True)
class FoundWord:
    """A word and its frames: the first, and the one after the last.

    A word that the text does not hold is written as its phones, in angle brackets;
    `words.decoder` spells it.
    """

    word: str
    first: int
    end: int


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
        p(output | all frames), all word sequences that are not far from the best taken together.
    """

    words: tuple[FoundWord, ...]
    labels: NDArray[np.int32]
    starts: NDArray[np.bool_]
    posteriors: NDArray[np.float32]

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
    word_cost : float
        Nats that every word costs beside what the word model says.
    scale : float
        Factor on the likelihoods: the lower, the more the word model counts.

    Raises
    ------
    UserError
        If the graph is missing or damaged, or the extra ``decode`` is not installed.
    """

    def __init__(
        self,
        graph: Path,
        beam: float,
        lattice_beam: float,
        word_cost: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        try:
            import kaldi_decoder
            import kaldifst
        except ImportError as error:
            raise UserError(
                "words: decoding words needs kaldifst and kaldi-decoder; "
                "run: pip install 'wav2vec-u[decode]'"
            ) from error
        self._kaldifst: Any = kaldifst
        self._decoder: Any = kaldi_decoder
        path = graph / FST_NAME
        if not path.exists():
            raise UserError(f"{graph}: holds no decoding graph; run again")
        lexicon = read_lexicon(graph)
        self.phones = _read_phones(graph)
        try:
            self._graph = kaldifst.StdVectorFst.read(str(path))
        except (OSError, ValueError) as error:
            raise UserError(f"{graph}: its decoding graph is damaged; run again") from error
        if self._graph is None:
            raise UserError(f"{graph}: its decoding graph is damaged; run again")
        self._words = list(lexicon)
        self._lengths = [len(lexicon[word]) for word in lexicon]
        self._beam = beam
        self._lattice_beam = lattice_beam
        self._word_cost = word_cost
        self._scale = scale

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
        if len(scores) == 0:
            return Found((), np.zeros(0, np.int32), np.zeros(0, np.bool_), scores)
        by_label = self._by_label(scores)
        found = self._find_lattice(by_label, scores.shape[1])
        for attempt in range(1, _TRIES):
            if found is not None:
                break
            found = self._find_path(by_label, scores.shape[1], self._beam * _WIDER**attempt)
        return found

    def _find_lattice(self, by_label: NDArray[np.float32], n_outputs: int) -> Found | None:
        """Find the best path and all that are not far from it; None if none comes to an end."""
        options = self._decoder.LatticeSimpleDecoderConfig(
            beam=self._beam, lattice_beam=self._lattice_beam
        )
        decoder = self._decoder.LatticeSimpleDecoder(self._graph, options)
        decoder.decode(self._decoder.DecodableCtc(by_label))
        if not math.isfinite(decoder.final_relative_cost()):
            return None
        found, path = decoder.get_best_path()
        whole, lattice = decoder.get_raw_lattice()
        if not (found and whole):
            return None
        return self._read(path, Lattice.read(lattice).posteriors(len(by_label), n_outputs))

    def _find_path(
        self, by_label: NDArray[np.float32], n_outputs: int, beam: float
    ) -> Found | None:
        """Find the best path alone, with a bound on what is held: a wide beam lets much live."""
        options = self._decoder.FasterDecoderOptions(beam=beam, max_active=_MOST_ACTIVE)
        decoder = self._decoder.FasterDecoder(self._graph, options)
        decoder.decode(self._decoder.DecodableCtc(by_label))
        found, path = decoder.get_best_path() if decoder.reached_final() else (False, None)
        if not found:
            return None
        nothing = np.zeros((len(by_label), n_outputs), np.float32)
        on_path = self._read(path, nothing)
        nothing[np.arange(len(by_label)), on_path.labels] = 1
        return on_path

    def _by_label(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores of the graph's labels, (T, 3 V): see `graph.build`."""
        scaled = self._scale * scores
        columns = np.concatenate([scaled, scaled - self._word_cost, scaled], axis=1)
        return np.ascontiguousarray(columns, dtype=np.float32)

    def _read(self, path: Any, posteriors: NDArray[np.float32]) -> Found:
        _, frames, words, _ = self._kaldifst.get_linear_symbol_sequence(path)
        arcs = np.array(frames, dtype=np.int32)
        n_phones = posteriors.shape[1]
        found = Found((), (arcs - 1) % n_phones, arcs <= 2 * n_phones, posteriors)
        spoken = found.phones()
        # The path says its words in order, each as the phones of its pronunciation.
        placed: list[FoundWord] = []
        fragments: list[FoundWord] = []
        place = 0
        for number in words:
            name, length = self._words[number - 1], self._lengths[number - 1]
            _, first, _ = spoken[place]
            _, _, end = spoken[place + length - 1]
            place += length
            if not is_fragment(name):
                placed.append(FoundWord(name, first, end))
                continue
            fragments.append(FoundWord(name, first, end))
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
    return FoundWord(join(names), fragments[0].first, fragments[-1].end)
