"""The search for words in several threads: it is compiled, and does not hold Python's lock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.config import SelftrainConfig, WordsConfig
from wav2vec_u.features.batching import map_ahead
from wav2vec_u.graph.build import STAY
from wav2vec_u.graph.search import Found, WordSearch

_AHEAD = 8  # utterances for each thread that are waiting or done

_Scores = NDArray[np.float32]


@dataclass(frozen=True)
class SearchSettings:
    """The arguments of `WordSearch`."""

    graph: Path
    beam: float
    lattice_beam: float
    max_active: int
    word_cost: float = 0.0
    scale: float = 1.0
    stay: float = STAY

    @classmethod
    def of(cls, graph: Path, config: SelftrainConfig | WordsConfig, stay: float) -> SearchSettings:
        """Return how a graph is searched for labels, or for the words of a transcript.

        How long phones stay is known to who reads the frames (`FrameReader.stay`). A word cost that
        is still to be found (`word_cost.calibrate_word_cost`) is 0, such a scale
        (`scale.calibrate_scale`) is 1.
        """
        return cls(
            graph,
            config.beam,
            config.lattice_beam,
            config.max_active,
            0.0 if config.word_cost == "auto" else config.word_cost,
            1.0 if config.scale == "auto" else config.scale,
            stay,
        )

    def open(self) -> WordSearch:
        """Load the graph."""
        return WordSearch(
            self.graph,
            self.beam,
            self.lattice_beam,
            self.max_active,
            self.word_cost,
            self.scale,
            self.stay,
        )


def find_all(
    settings: SearchSettings, scores: Iterable[_Scores], threads: int
) -> Iterator[Found | None]:
    """Find the words of many utterances, in order; some dozen utterances are held at once.

    Parameters
    ----------
    settings : SearchSettings
    scores : iterable of (T, V) float32
        As `WordSearch.find` takes them.
    threads : int
        All search the same graph.

    Raises
    ------
    UserError
        If the graph cannot be used.
    """
    search = settings.open()
    for _, found in map_ahead(search.find, scores, threads, _AHEAD):
        yield found
