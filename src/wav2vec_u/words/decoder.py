"""From the segments of an utterance to its words and their phones, with times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.config import WordsConfig
from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.stage import output_times
from wav2vec_u.decode.transcript import Alternative, WordSpan
from wav2vec_u.graph.found_weights import FoundWeights
from wav2vec_u.graph.fragments import is_fragment
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.graph.search import Found, FoundWord, WordSearch, require_phones
from wav2vec_u.selftrain.frame_model import FrameReader
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.text.spelling import SPELLING_NAME, Speller


@dataclass(frozen=True)
class Spoken:
    """The words of one utterance and the phones they were said with, in time order.

    Attributes
    ----------
    words : tuple of WordSpan
    phones : tuple of PhoneSpan
    alternatives : tuple of Alternative
        Other words, the likeliest first.
    """

    words: tuple[WordSpan, ...]
    phones: tuple[PhoneSpan, ...]
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class WordDecoder:
    """What turns segments into words.

    Attributes
    ----------
    model : FrameReader
    search : WordSearch
    speller : Speller or None
        None where only words of the text are looked for.
    """

    model: FrameReader
    search: WordSearch
    speller: Speller | None = None

    @classmethod
    def load(
        cls, graph: Path, model: FrameReader, text: Path, config: WordsConfig, found: Path
    ) -> WordDecoder:
        """Put together what the stages have made.

        Parameters
        ----------
        graph, text : Path
            Finished artefacts.
        model : FrameReader
        config : WordsConfig
        found : Path
            Where that model has found words: it says what weights it went by, where `config` leaves
            them to be found.

        Raises
        ------
        UserError
            If a file is missing or damaged, or they do not belong together.
        """
        require_phones(graph, PhoneText(text).phones)
        settings = SearchSettings.of(graph, config, model.stay)
        weights = FoundWeights.load(found)
        if weights is not None and config.word_cost == "auto":
            settings = replace(settings, word_cost=weights.word_cost)
        if weights is not None and config.scale == "auto":
            settings = replace(settings, scale=weights.scale)
        return cls(model, settings.open(), load_speller(graph))

    def decode(
        self, vectors: NDArray[np.float32], times: NDArray[np.float32], alternatives: int = 0
    ) -> Spoken | None:
        """Find the words of one utterance; None if no sequence of words fits it.

        Parameters
        ----------
        vectors : (S, P) float32
        times : (S, 2) float32
            Seconds of the original recording.
        alternatives : int
            How many other word sequences are told, at most.
        """
        if len(vectors) == 0:
            return Spoken((), ())
        found = self.search.find_several(self.model.likelihoods(vectors), 1 + alternatives)
        if not found:
            return None
        times = output_times(times, self.model.stride)
        best, *others = (place(item, times, self.search.phones, self.speller) for item in found)
        told = [
            Alternative(spoken.words, item.behind)
            for spoken, item in zip(others, found[1:], strict=True)
        ]
        return replace(best, alternatives=tuple(told))


def load_speller(graph: Path) -> Speller | None:
    """Load what writes unknown words; None where the graph has none."""
    return Speller.load(graph) if (graph / SPELLING_NAME).exists() else None


def place(
    found: Found,
    times: NDArray[np.float32],
    phones: Sequence[str],
    speller: Speller | None = None,
) -> Spoken:
    """Give what was found its times, its confidence and, if it is no word of the text, letters.

    Parameters
    ----------
    found : Found
        Of T frames.
    times : (T, 2) float32
        Their beginnings and ends, seconds.
    phones : sequence of str
        Names of the labels.
    speller : Speller or None
        Without one, an unknown word stays as its phones in angle brackets.
    """
    said = found.phones()
    words = []
    for item in found.words:
        known = not is_fragment(item.word)
        written = item.word
        if not known and speller is not None:
            written = speller.spell(_phones_of(item, said, phones)) or item.word
        start_s, end_s = float(times[item.first, 0]), float(times[item.end - 1, 1])
        words.append(WordSpan(written, start_s, end_s, item.confidence, known))
    return Spoken(
        tuple(words),
        tuple(
            PhoneSpan(phones[label], float(times[first, 0]), float(times[end - 1, 1]))
            for label, first, end in found.likeliest_phones()
        ),
    )


def _phones_of(
    word: FoundWord, said: Sequence[tuple[int, int, int]], phones: Sequence[str]
) -> list[str]:
    return [phones[label] for label, first, _ in said if word.first <= first < word.end]
