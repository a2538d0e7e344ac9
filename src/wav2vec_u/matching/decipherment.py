"""Decipherment: read cluster codes as an unknown script of a known language.

Every segment carries a k-means code. Which code stands for which phone is learned by
expectation–maximisation of a hidden Markov model whose transitions are a phone n-gram model of the
unpaired text, and whose emissions p(code | phone) are unknown (Knight et al., 2006, *Unsupervised
analysis for decipherment problems*). From a random start this ends in a fluent private code. It is
the annealing that finds the language: emissions are raised to a power ("sharpness") that grows
from a small value, where every code can stand for every phone, to 1 (Ueda and Nakano, 1998,
*Deterministic annealing EM algorithm*). What the first iterations find depends on the statistics
of the corpus and hardly on chance, so that restarts agree.

What is found at full sharpness may still have taken a few phones for each other. Warmed up again
part of the way, the codes that the language is sure of stay, and the others are read anew beside
them, with far more known than the first time (`DeciphermentConfig.reheats`).

Nothing here knows a transcript.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec_u.config import DeciphermentConfig
from wav2vec_u.matching.batches import TextSource
from wav2vec_u.matching.ngram_hmm import Floats, PhoneTransitions, expect
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_text
from wav2vec_u.runtime.progress import MetricsLog, progress
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.text.ngram import NgramModel

SMOOTHING = 0.1  # pseudo-counts of a phone, spread as the codes are
START_NOISE = 0.3  # standard deviation of the first emissions' logarithm: breaks the symmetry
CHECKPOINT_EVERY = 5  # iterations
TOLERANCE = 1e-3  # nats a segment; what gains less, an iteration or a warming up, is the last one
MIN_PHONES = 5  # fewer tell nothing apart


@dataclass(frozen=True)
class CodeLanguage:
    """The phones that take part in the search and how they follow each other.

    Attributes
    ----------
    phones : ndarray, shape (V,)
        Their ids in the text's inventory.
    transitions : PhoneTransitions
        Over these V phones.
    """

    phones: NDArray[np.int64]
    transitions: PhoneTransitions


def learn_language(
    text: TextSource,
    min_phone_share: float,
    setting: str = "matching.decipherment.min_phone_share",
) -> CodeLanguage:
    """Estimate the transitions from the unpaired text, rare phones left out.

    Sentences are cut at rare phones, and nothing is assumed about how an utterance begins: where
    the voice activity detector cuts is not where sentences begin.

    Parameters
    ----------
    text : TextSource
    min_phone_share : float
        Share of all phones below which a phone is left out.
    setting : str
        Where a user can change that, for the message.

    Raises
    ------
    UserError
        If hardly a phone is left.
    """
    n_phones = len(text.phones)
    counts = np.zeros(n_phones, dtype=np.int64)
    for i in range(len(text)):
        counts += np.bincount(text.sentence(i), minlength=n_phones)
    kept = np.flatnonzero(counts > max(0.0, min_phone_share * counts.sum()))
    if len(kept) < MIN_PHONES:
        raise UserError(
            f"text: only {len(kept)} phones are common enough to search with; give it more text "
            f"or lower {setting}"
        )
    new_ids = np.full(n_phones, -1)
    new_ids[kept] = np.arange(len(kept))
    symbols = [text.phones[i] for i in kept.tolist()]
    models = {
        order: NgramModel(order).fit(_pieces(text, new_ids), symbols).dense(order)
        for order in (2, 3)
    }
    unigram = counts[kept] / counts[kept].sum()
    bigram = _normalised(models[2])
    v = len(kept)
    trigram = np.empty((v, v + 1, v))
    trigram[:, :v] = _normalised(models[3]).transpose(1, 0, 2)  # [x, y, z] -> [y, x, z]
    trigram[:, v] = bigram
    transitions = PhoneTransitions(
        unigram.astype(np.float32), bigram.astype(np.float32), trigram.astype(np.float32)
    )
    return CodeLanguage(kept, transitions)


def _pieces(text: TextSource, new_ids: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for i in range(len(text)):
        ids = new_ids[text.sentence(i)]
        rare = np.flatnonzero(ids < 0)
        for piece in np.split(ids, rare):
            piece = piece[piece >= 0]
            if len(piece) > 1:
                yield piece


def _normalised(log10_table: NDArray[np.float32]) -> NDArray[np.float64]:
    # The mass of the sentence's end goes to the phones: utterances end where the detector cuts.
    table = np.power(10.0, log10_table.astype(np.float64))
    total: NDArray[np.float64] = table / table.sum(axis=-1, keepdims=True)
    return total


@dataclass(frozen=True)
class Deciphered:
    """What the search found.

    Attributes
    ----------
    posteriors : ndarray, shape (S, V), float32
        p(phone | utterance) for every segment, over `CodeLanguage.phones`.
    gain : float
        Log-likelihood a segment, less that of codes drawn by their frequency alone, nats: how much
        of the codes the language explains. The higher, the better the reading.
    """

    posteriors: Floats
    gain: float


class Decipherment:
    """Annealed expectation–maximisation of one reading.

    Parameters
    ----------
    codes : list of ndarray, each (S,)
        Codes of every utterance's segments.
    n_codes : int
        K.
    language : CodeLanguage
    config : DeciphermentConfig
    seed : int
        Of the small noise of the start and the choice of utterances to anneal on.
    folder : Path
        Gets ``log.jsonl`` and a checkpoint every few iterations.
    threads : int
        That share the work; they do not change the result.
    restart : int
        Number of the restart: which of the schedules in `config.trigram_sharpness` it takes.
    """

    def __init__(
        self,
        codes: list[NDArray[np.int32]],
        n_codes: int,
        language: CodeLanguage,
        config: DeciphermentConfig,
        *,
        seed: int,
        folder: Path,
        threads: int,
        restart: int = 0,
    ) -> None:
        self.config = config
        self.restart = restart
        self.language = language
        self.folder = folder
        self.threads = threads
        self._all = _Corpus.of(codes)
        self._some = _Corpus.of(_sample(codes, config.max_segments, seed))
        frequency = np.bincount(self._all.symbols, minlength=n_codes) + 0.5
        self._frequency = frequency / frequency.sum()  # (K,)
        rng = numpy_generator(seed, "decipherment")
        noise = np.exp(START_NOISE * rng.standard_normal((n_codes, len(language.phones))))
        self._emissions = self._estimate(noise * self._frequency[:, None])

    @property
    def checkpoint(self) -> Path:
        """Where the state of an unfinished search is kept."""
        return self.folder / "checkpoint.safetensors"

    def run(self, resume: bool) -> Deciphered:
        """Search, from the last checkpoint if `resume` is set and there is one.

        Cools down, then warms up and cools down again for as long as that raises the gain, and
        returns the reading of the highest gain.
        """
        state = _State(self._emissions, self._emissions)
        if resume and self.checkpoint.exists():
            state = _State.load(self.checkpoint)
            self._emissions = state.emissions
        log_path = self.folder / "log.jsonl"
        _keep_lines(log_path, state.iteration)
        with ThreadPoolExecutor(self.threads) as pool, MetricsLog(log_path) as log:
            while state.heat <= self.config.reheats:
                self._cool(state, pool, log)
                if state.best_gain < state.gain_to_beat + TOLERANCE:
                    break
                state.next_heat()
            self._emissions = state.best_emissions
            return self._iterate(self._all, 3, 1.0, pool)

    def _cool(self, state: _State, pool: ThreadPoolExecutor, log: MetricsLog) -> None:
        steps = list(self._schedule(state.heat))
        label = "decipherment" if state.heat == 0 else f"reheated, {state.heat}"
        for step in progress(range(state.step, len(steps)), label=label):
            order, sharpness = steps[step]
            final = sharpness == 1
            tried = self._emissions
            found = self._iterate(self._all if final else self._some, order, sharpness, pool)
            log.write(
                iteration=state.iteration,
                heat=state.heat,
                order=order,
                sharpness=sharpness,
                gain=found.gain,
            )
            state.iteration += 1
            if final:
                if found.gain > state.best_gain:
                    state.best_gain, state.best_emissions = found.gain, tried
                if found.gain < state.gain + TOLERANCE:
                    break
                state.gain = found.gain
            if state.iteration % CHECKPOINT_EVERY == 0:
                state.step, state.emissions = step + 1, self._emissions
                state.save(self.checkpoint)

    def _schedule(self, heat: int) -> Iterator[tuple[int, float]]:
        """Yield the order of the language model and the sharpness of every iteration."""
        config = self.config
        if heat == 0:
            middle = config.trigram_sharpness[self.restart % len(config.trigram_sharpness)]
            for step in range(config.bigram_iterations):
                share = step / config.bigram_iterations
                yield 2, config.start_sharpness + share * (middle - config.start_sharpness)
            iterations = config.trigram_iterations
        else:
            middle, iterations = config.reheat_sharpness, config.reheat_iterations
        for step in range(iterations):
            yield 3, middle + (1 - middle) * step / iterations
        for _ in range(config.final_iterations):
            yield 3, 1.0

    def _iterate(
        self, corpus: _Corpus, order: int, sharpness: float, pool: ThreadPoolExecutor
    ) -> Deciphered:
        # Divided by the codes' frequencies, which are the same for every phone, so that a code's
        # likelihoods keep to a comfortable range and their logarithm is a gain.
        relative = self._emissions / self._frequency[:, None]
        posteriors = np.zeros((len(corpus.symbols), relative.shape[1]), dtype=np.float32)
        found = expect(
            order,
            corpus.symbols,
            corpus.offsets,
            (relative**sharpness).astype(np.float32),
            self.language.transitions,
            self.config.stay_probability,
            posteriors,
            pool,
        )
        self._emissions = self._estimate(found.counts)
        return Deciphered(posteriors, found.log_likelihood / len(corpus.symbols))

    def _estimate(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        smoothed = counts + SMOOTHING * self._frequency[:, None]
        estimate: NDArray[np.float64] = smoothed / smoothed.sum(axis=0)
        return estimate


@dataclass
class _State:
    """What a search goes on from: emissions (K, V), the best reading, and where it stands."""

    emissions: NDArray[np.float64]
    best_emissions: NDArray[np.float64]
    best_gain: float = -np.inf
    gain_to_beat: float = -np.inf  # best one when the last warming up began
    gain: float = -np.inf  # of the iteration before, if that was at full sharpness
    heat: int = 0  # times that the search was warmed up again
    step: int = 0  # in the schedule since then
    iteration: int = 0  # in all

    def next_heat(self) -> None:
        self.gain_to_beat, self.gain = self.best_gain, -np.inf
        self.heat, self.step = self.heat + 1, 0

    def save(self, path: Path) -> None:
        values: dict[str, Any] = dataclasses.asdict(self)
        for name in ("emissions", "best_emissions"):
            values[name] = torch.from_numpy(values[name])
        save_checkpoint(path, values)

    @classmethod
    def load(cls, path: Path) -> _State:
        values = load_checkpoint(path)
        for name in ("emissions", "best_emissions"):
            values[name] = values[name].numpy()
        return cls(**values)


def _keep_lines(log: Path, count: int) -> None:
    # One line an iteration: what was logged after the checkpoint is done, and logged, again.
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(log, "".join(lines[:count]))


@dataclass(frozen=True)
class _Corpus:
    symbols: NDArray[np.int32]  # (S,)
    offsets: NDArray[np.int64]  # (U + 1,)

    @classmethod
    def of(cls, codes: Iterable[NDArray[np.int32]]) -> _Corpus:
        utterances = list(codes)
        lengths = [len(utterance) for utterance in utterances]
        return cls(
            np.concatenate(utterances).astype(np.int32),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        )


def _sample(
    codes: list[NDArray[np.int32]], max_segments: int, seed: int
) -> list[NDArray[np.int32]]:
    order = numpy_generator(seed, "annealing sample").permutation(len(codes))
    room = max_segments
    chosen: list[int] = []
    for i in order.tolist():
        if chosen and len(codes[i]) > room:
            break
        chosen.append(i)
        room -= len(codes[i])
    return [codes[i] for i in sorted(chosen)]
