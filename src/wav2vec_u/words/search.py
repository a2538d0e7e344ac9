"""Viterbi beam search for the best words, with the frames at which they begin and end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.lexicon import Lexicon
from wav2vec_u.words.graph import FST_NAME, PHONES_NAME, SILENCE_LABEL, WORDS_NAME

_WIDER = 2.0  # factor on the beam where every path was lost
_TRIES = 3


@dataclass(frozen=True)
class FoundWord:
    """A word and its frames: the first, and the one after the last."""

    word: str
    first: int
    end: int


class WordSearch:
    """The search through a decoding graph.

    Parameters
    ----------
    folder : Path
        What `graph.build_graph` wrote.
    lexicon : Lexicon
        The one that the graph was built from.
    beam : float
        Paths that cost so much more than the best are dropped, nats.
    max_active : int
        States that are held at once.

    Raises
    ------
    UserError
        If the graph is missing or damaged, or the extra ``decode`` is not installed.
    """

    def __init__(self, folder: Path, lexicon: Lexicon, beam: float, max_active: int) -> None:
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
        path = folder / FST_NAME
        try:
            self.words = (folder / WORDS_NAME).read_text(encoding="utf-8").splitlines()
            self.phones: list[str] = json.loads((folder / PHONES_NAME).read_text(encoding="utf-8"))
            self._graph = kaldifst.StdVectorFst.read(str(path)) if path.exists() else None
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: its decoding graph is damaged; run again") from error
        if self._graph is None or any(word not in lexicon for word in self.words):
            raise UserError(f"{folder}: holds no decoding graph of this text; run again")
        self._lengths = [len(lexicon[word]) for word in self.words]
        self._beam = beam
        self._max_active = max_active

    def find(self, scores: NDArray[np.float32]) -> list[FoundWord] | None:
        """Find the best words of one utterance.

        Parameters
        ----------
        scores : (T, V) float32
            Log-likelihoods of the frames, up to a constant of the frame.

        Returns
        -------
        list of FoundWord or None
            None where even the widest beam lost every path, as in an utterance of fewer frames than
            any word has phones.
        """
        if len(scores) == 0:
            return []
        # Further frames of a phone have labels of their own, and the same likelihoods.
        doubled = np.ascontiguousarray(np.concatenate([scores, scores], axis=1), dtype=np.float32)
        for attempt in range(_TRIES):
            options = self._decoder.FasterDecoderOptions(
                beam=self._beam * _WIDER**attempt, max_active=self._max_active * 2**attempt
            )
            decoder = self._decoder.FasterDecoder(self._graph, options)
            decoder.decode(self._decoder.DecodableCtc(doubled))
            if not decoder.reached_final():
                continue
            found, path = decoder.get_best_path()
            if found:
                return self._words_of(path, scores.shape[1])
        return None

    def _words_of(self, path: Any, n_phones: int) -> list[FoundWord]:
        _, frames, words, _ = self._kaldifst.get_linear_symbol_sequence(path)
        starts = [frame for frame, label in enumerate(frames) if label <= n_phones]
        ends = [*starts[1:], len(frames)]
        spoken = [
            (start, end)
            for start, end in zip(starts, ends, strict=True)
            if frames[start] != SILENCE_LABEL
        ]
        # The path says its words in order, each as the phones of its pronunciation.
        found = []
        place = 0
        for number in words:
            length = self._lengths[number - 1]
            found.append(
                FoundWord(self.words[number - 1], spoken[place][0], spoken[place + length - 1][1])
            )
            place += length
        return found
