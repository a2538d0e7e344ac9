"""Sentences of phones on disk: flat arrays with the places where words and sentences begin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_text
from wav2vec_u.text.lexicon import SILENCE
from wav2vec_u.text.ngram import NgramModel

PHONES_NAME = "phones.txt"  # one phone a line; the line's number, from 0, is its id
SENTENCES_NAME = "sentences.npy"  # (T,) int16: phone ids of all sentences, without silence
WORD_OFFSETS_NAME = "word_offsets.npy"  # (W + 1,) int64: place of each word's first phone
SENTENCE_OFFSETS_NAME = "sentence_offsets.npy"  # (S + 1,) int64: number of each one's first word
SILENCE_NAME = "silence.json"  # how silence is drawn
LM_NAME = "lm.arpa"  # n-gram model of phones without silence
LM_SILENCE_NAME = "lm_sil.arpa"  # n-gram model of phones with silence
_BATCH_SENTENCES = 1_000


class PhoneTextWriter:
    """Append sentences to a folder, holding none of them in memory.

    Used as a context manager; the arrays are complete when it ends without an error.

    Parameters
    ----------
    folder : Path
        Existing folder.
    silence_probability : float
        Of a silence between two words, for the reader to draw.
    surround_with_silence : bool
        Whether the reader puts silence at both ends.
    """

    def __init__(
        self, folder: Path, *, silence_probability: float, surround_with_silence: bool
    ) -> None:
        self._folder = folder
        self._silence = {"probability": silence_probability, "surround": surround_with_silence}
        self._ids = {SILENCE: 0}
        self._sentences = _ArrayFile(folder / SENTENCES_NAME, np.dtype(np.int16))
        self._word_offsets = _ArrayFile(folder / WORD_OFFSETS_NAME, np.dtype(np.int64))
        self._sentence_offsets = _ArrayFile(folder / SENTENCE_OFFSETS_NAME, np.dtype(np.int64))
        self._word_offsets.append([0])
        self._sentence_offsets.append([0])
        self.n_sentences = 0
        self.n_words = 0
        self.n_phones = 0

    @property
    def phones(self) -> list[str]:
        """Silence, then the phones in the order in which they came."""
        return list(self._ids)

    def append(self, words: Sequence[Sequence[str]]) -> None:
        """Add a sentence: the phones of its words, none of them empty.

        Raises
        ------
        UserError
            If there are more different phones than ids.
        """
        ids = [self._ids.setdefault(phone, len(self._ids)) for word in words for phone in word]
        if len(self._ids) > np.iinfo(np.int16).max:
            raise UserError("text: has more than 32,766 different phones; check the phonemizer")
        lengths = np.array([len(word) for word in words])
        self._sentences.append(ids)
        self._word_offsets.append(self.n_phones + np.cumsum(lengths))
        self.n_phones += len(ids)
        self.n_words += len(words)
        self.n_sentences += 1
        self._sentence_offsets.append([self.n_words])

    def __enter__(self) -> PhoneTextWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for array in (self._sentences, self._word_offsets, self._sentence_offsets):
            array.close()
        if error is None:
            write_text(self._folder / PHONES_NAME, "\n".join(self._ids) + "\n")
            write_json(self._folder / SILENCE_NAME, self._silence)


class PhoneText:
    """Unpaired text as phones.

    Parameters
    ----------
    folder : Path
        Artefact of the text stage.

    Attributes
    ----------
    phones : list of str
        Inventory; ``phones[0]`` is the silence, ``<SIL>``.

    Raises
    ------
    UserError
        If the artefact is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.phones = (folder / PHONES_NAME).read_text(encoding="utf-8").split()
            silence = json.loads((folder / SILENCE_NAME).read_text(encoding="utf-8"))
            self._silence_probability = float(silence["probability"])
            self._surround = bool(silence["surround"])
            self._flat = _open_array(folder / SENTENCES_NAME)
            self._words = _open_array(folder / WORD_OFFSETS_NAME)
            offsets = _open_array(folder / SENTENCE_OFFSETS_NAME)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder}: is no finished text artefact; run the text stage again ({error})"
            ) from error
        fits = offsets[-1] == len(self._words) - 1 and self._words[-1] == len(self._flat)
        if self.phones[:1] != [SILENCE] or not fits:
            raise UserError(f"{folder}: its files do not fit together; run the text stage again")
        self._folder = folder
        self._first_word = offsets[:-1]
        self._end_word = offsets[1:]

    @property
    def phones_per_word(self) -> float:
        """Phones of a word, on average over all words as often as they occur."""
        return float(len(self._flat) / (len(self._words) - 1))

    def __len__(self) -> int:
        return len(self._first_word)

    def sentence(self, i: int) -> NDArray[np.int32]:
        """Return the phone ids of sentence `i` without silence, (L,)."""
        start, end = self._words[self._first_word[i]], self._words[self._end_word[i]]
        return np.asarray(self._flat[start:end], dtype=np.int32)

    def sentence_with_silence(self, i: int, rng: np.random.Generator) -> NDArray[np.int32]:
        """Return the phone ids of sentence `i`, silence drawn anew, (L,)."""
        ids, _ = self._with_silence(np.array([i]), rng)
        return np.asarray(ids[0], dtype=np.int32)

    def sample_batch(
        self, rng: np.random.Generator, size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw sentences with replacement, and silence inside them.

        Returns
        -------
        ids : ndarray
            (B, L) int64 phone ids, zero behind the sentence's end.
        lengths : ndarray
            (B,) int64, silence included.
        """
        return self._with_silence(rng.integers(len(self), size=size), rng)

    def sentences(self) -> Iterator[NDArray[np.int32]]:
        """Yield every sentence without silence."""
        for i in range(len(self)):
            yield self.sentence(i)

    def sentences_with_silence(self, rng: np.random.Generator) -> Iterator[NDArray[np.int32]]:
        """Yield every sentence once, with silence drawn anew."""
        for first in range(0, len(self), _BATCH_SENTENCES):
            batch = np.arange(first, min(first + _BATCH_SENTENCES, len(self)))
            ids, lengths = self._with_silence(batch, rng)
            for row, length in zip(ids, lengths.tolist(), strict=True):
                yield row[:length].astype(np.int32)

    def split_halves(self, rng: np.random.Generator) -> tuple[PhoneText, PhoneText]:
        """Return two texts of half of the sentences each, drawn without replacement."""
        order = rng.permutation(len(self))
        half = len(self) // 2
        return self._subset(np.sort(order[:half])), self._subset(np.sort(order[half:]))

    def language_model(self, *, with_silence: bool = False) -> NgramModel:
        """Read the phone n-gram model; its ids are those of `phones`.

        Parameters
        ----------
        with_silence : bool
            The model of sentences with silence drawn once, instead of the one without any.
        """
        name = LM_SILENCE_NAME if with_silence else LM_NAME
        return NgramModel.read_arpa(self._folder / name, self.phones)

    def _subset(self, chosen: NDArray[np.int64]) -> PhoneText:
        subset = PhoneText(self._folder)
        subset._first_word = self._first_word[chosen]
        subset._end_word = self._end_word[chosen]
        return subset

    def _with_silence(
        self, chosen: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return padded ids (B, L) and lengths (B,) of sentences, with silence.

        Silence is id 0, and so is the padding: only the phones have to be put in their places.
        """
        n_words = self._end_word[chosen] - self._first_word[chosen]  # (B,)
        row_of_word = np.repeat(np.arange(len(chosen)), n_words)  # (W,)
        words = _ranges(self._first_word[chosen], n_words)  # (W,)
        word_starts = self._words[words]
        word_lengths = self._words[words + 1] - word_starts
        is_first = np.ones(len(words), dtype=bool)
        is_first[1:] = row_of_word[1:] != row_of_word[:-1]
        silent = rng.random(len(words)) < self._silence_probability
        silent[is_first] = self._surround  # a silence before the word

        # Place of each word in its sentence: what words up to it take, less what earlier rows do.
        taken = word_lengths + silent
        ends = np.cumsum(taken)  # (W,)
        row_lengths = np.bincount(row_of_word, weights=taken, minlength=len(chosen))
        row_lengths = row_lengths.astype(np.int64)  # (B,)
        row_starts = np.cumsum(row_lengths) - row_lengths
        columns = ends - word_lengths - row_starts[row_of_word]  # (W,) of first phones

        lengths = row_lengths + (1 if self._surround else 0)  # the silence at the end
        ids = np.zeros((len(chosen), int(lengths.max(initial=0))), dtype=np.int64)
        rows = np.repeat(row_of_word, word_lengths)  # (T,)
        ids[rows, _ranges(columns, word_lengths)] = self._flat[_ranges(word_starts, word_lengths)]
        return ids, lengths


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``start, start + 1, ...`` for every start, one range after the other.

    >>> _ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def _open_array(path: Path) -> NDArray[np.int64]:
    # A plain view of the mapped file: indexing NumPy's memmap class is ten times slower.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


class _ArrayFile:
    """A one-dimensional ``.npy`` file that grows; its header gets the length in the end."""

    def __init__(self, path: Path, dtype: np.dtype[np.generic]) -> None:
        self._dtype = dtype
        self._length = 0
        self._file: BinaryIO = path.open("wb")
        self._write_header()

    def append(self, values: Iterable[int] | NDArray[np.integer]) -> None:
        block = np.asarray(values, dtype=self._dtype)
        self._file.write(block.tobytes())
        self._length += len(block)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        # NumPy leaves room for the first dimension to grow, so the header's size never changes.
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._length,),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
