"""Rounds of self-training: what is understood of the recordings teaches the next model.

A round teaches a fresh generator the labels of the round before, fits mixtures of Gaussians to the
same labels, and reads the recordings with both: for words of the text where there is a decoding
graph, else for phones. Words and a second model that errs elsewhere correct what the generator
alone would repeat for ever. The paper's self-training trains a hidden Markov model of Gaussian
mixtures on the labels of the generator, and decodes with words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec_u.config import SelftrainConfig
from wav2vec_u.graph.parallel import SearchSettings, find_all
from wav2vec_u.matching.decipherment import CodeLanguage
from wav2vec_u.matching.frame_hmm import FrameHmm, mean_probabilities
from wav2vec_u.matching.frame_teacher import UNKNOWN, teach
from wav2vec_u.matching.generator import Generator
from wav2vec_u.matching.lessons import (
    BLOCK_SEGMENTS,
    Labels,
    blocks,
    read_labels,
    recorded_lessons,
    sure_labels,
    synthetic_lessons,
)
from wav2vec_u.matching.synthetic import SyntheticSegments
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_jsonl
from wav2vec_u.runtime.progress import progress
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.selftrain.frame_model import FrameModel, checked_log_probs
from wav2vec_u.selftrain.inputs import Inputs, Reads
from wav2vec_u.selftrain.mixtures import LEAST_FRAMES, Mixtures

LABELS_NAME = "labels.npy"
FIGURES_NAME = "figures.json"
LEAST_UPDATES = 480  # of a generator, however few the recordings (measured on the demo's segments)
LEAST_PHONES = 2  # with labels enough for a mixture
LEAST_VARIETY = 0.25  # of the text's phone perplexity, below which labels have collapsed

_Floats = NDArray[np.float32]


class Collapsed(UserError):
    """The labels are no more than a few phones."""


class SelfTraining:
    """The rounds, each in a folder of its own.

    Parameters
    ----------
    folder : Path
        Gets ``round_NN/``.
    inputs : Inputs
        What is read of the recordings.
    utterances : list of int
        Of `inputs`, to learn from.
    start : Generator
        What the matching has learned; of stride 1. Those that rounds teach are like it.
    language : CodeLanguage
    config : SelftrainConfig
    synthetic : SyntheticSegments or None
        Heard beside the recordings, so that phones stay in their places.
    graph : SearchSettings or None
        Where words are to be found; None: phones alone.
    threads : int
        Of torch, and of the search.
    labels : list of ndarray or None
        Of the utterances, (S,) each, to begin with. Then there is no round 0, and `start` only
        tells what the others are to be like.
    reads : {"segments", "frames"}
        What `inputs` are; see `FrameModel.reads`.
    """

    def __init__(
        self,
        folder: Path,
        inputs: Inputs,
        utterances: list[int],
        start: Generator,
        language: CodeLanguage,
        config: SelftrainConfig,
        *,
        synthetic: SyntheticSegments | None,
        graph: SearchSettings | None,
        threads: int,
        labels: list[Labels] | None = None,
        reads: Reads = "segments",
    ) -> None:
        self._folder = folder
        self._inputs = inputs
        self._utterances = utterances
        self._start = start
        self._language = language
        self._config = config
        self._synthetic = synthetic
        self._graph = graph
        self._threads = threads
        self._given = labels
        self._reads = reads
        self._first = 0 if labels is None else 1
        self._stopped: str | None = None

    def run(self, resume: bool) -> FrameModel:
        """Do rounds while the gain rises, and return the model of the best (`best_round`).

        Parameters
        ----------
        resume : bool
            Go on from the rounds that an interrupted run of the same settings left.

        Raises
        ------
        Collapsed
            If already the labels of the matching are no more than a few phones.
        UserError
            If what an earlier round left is damaged.
        """
        gains: dict[int, float] = {}
        for number in progress(self._numbers(), label=f"self-training, {self._reads}"):
            place = self._place(number)
            if not (resume and (place / FIGURES_NAME).exists()):
                place.mkdir(parents=True, exist_ok=True)
                try:
                    self._round(number, place)
                except Collapsed as collapsed:
                    if number == self._first:
                        raise
                    self._stopped = str(collapsed)
                    break
            gains[number] = self.figures(number)["gain"]
            if gains[number] < gains[best_round(gains)]:
                break
        rows = ({"round": number, **self.figures(number)} for number in gains)
        write_jsonl(self._folder / "log.jsonl", rows)
        return FrameModel.load(self._place(best_round(gains)))

    def best_labels(self) -> list[Labels]:
        """Read the labels that the best of the finished rounds has left."""
        return self._labels(best_round(self._gains()))

    def summary(self) -> dict[str, float | str]:
        """Return how many rounds were done, which one was best, its gain, and why they stopped.

        The last, ``stopped``, is there only where the labels of a later round had collapsed.
        """
        gains = self._gains()
        best = best_round(gains)
        summary: dict[str, float | str] = {
            "rounds": max(gains),
            "best_round": best,
            "gain": gains[best],
        }
        return summary if self._stopped is None else {**summary, "stopped": self._stopped}

    def figures(self, number: int) -> dict[str, float]:
        """Return what a finished round has measured."""
        path = self._place(number) / FIGURES_NAME
        try:
            found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
            return {"loss": found["loss"], "gain": found["gain"], "sure": found["sure"]}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: is damaged; remove {self._folder} and run again") from error

    def _numbers(self) -> range:
        return range(self._first, self._config.rounds + 1)

    def _gains(self) -> dict[int, float]:
        """Return the gain of every finished round."""
        return {
            number: self.figures(number)["gain"]
            for number in self._numbers()
            if (self._place(number) / FIGURES_NAME).exists()
        }

    def _place(self, number: int) -> Path:
        return self._folder / f"round_{number:02d}"

    def _round(self, number: int, place: Path) -> None:
        """Learn from the labels of the round before, and label the recordings anew."""
        seed = int(numpy_generator(self._config.seed, "self-training", number).integers(2**31))
        generator, loss = self._start, None
        if number > 0:
            generator, loss = self._taught(self._labels(number - 1), number, seed)
        said = [checked_log_probs(generator, vectors) for vectors in self._vectors()]
        config = self._config
        # Both together count as much as the generator does where it stands alone.
        alone = FrameHmm(
            self._language,
            mean_probabilities(said),
            2 * config.generator_power,
            config.stay_probability,
        )
        sure: list[Labels] = []
        gain = voiced = 0.0
        for block in blocks(said, BLOCK_SEGMENTS):
            read = alone.read(block, self._threads)
            gain += read.gain
            voiced += read.voiced
            sure += [sure_labels(rows, config.sure) for rows in read.posteriors]
        gain /= max(1.0, voiced)
        labels = self._labels(number - 1) if number > 0 else sure
        self._check_variety(labels)
        mixtures = Mixtures(
            config.mixture_context, config.mixture_dim, config.mixture_components, seed
        ).fit(lambda: zip(self._vectors(), labels, strict=True), said[0].shape[1])
        model = FrameModel(
            generator,
            replace(alone, power=config.generator_power),
            mixtures,
            config.mixture_power,
            self._reads,
        )
        model.save(place)
        heard = self.hear(model)
        np.save(place / LABELS_NAME, np.concatenate(heard))
        labelled = float(np.mean(np.concatenate(heard) != UNKNOWN))
        figures = {"loss": loss, "gain": round(gain, 5), "sure": round(labelled, 5)}
        write_json(place / FIGURES_NAME, figures)  # last: a round whose figures stand is done

    def _taught(self, labels: list[Labels], number: int, seed: int) -> tuple[Generator, float]:
        """Teach a generator like the first one, from fresh weights; return it and its loss."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # torch's initialisers know no other generator
            generator = Generator(**self._start.settings)
        lessons = recorded_lessons(self._inputs, self._utterances, labels)
        if self._synthetic is not None:
            lessons += synthetic_lessons(self._synthetic, self._config.synthetic_share, seed)
        loss = teach(
            generator,
            lessons,
            epochs=self._config.epochs,
            learning_rate=self._config.learning_rate,
            weight_decay=self._config.weight_decay,
            seed=seed,
            least_updates=LEAST_UPDATES,
        )
        if not math.isfinite(loss):
            raise UserError(
                f"selftrain: in round {number} the loss is no longer a number; "
                "lower selftrain.learning_rate"
            )
        return generator, round(loss, 5)

    def hear(self, model: FrameModel) -> list[Labels]:
        """Label every output of a model with what it understands of the recordings.

        Parameters
        ----------
        model : FrameModel
            Of any stride.

        Returns
        -------
        list of ndarray, each (S',)
            Of the utterances; `UNKNOWN` where it is not sure.
        """
        if self._graph is None:
            posteriors = chain.from_iterable(
                model.read(block, self._threads)
                for block in blocks(self._vectors(), BLOCK_SEGMENTS)
            )
            return [sure_labels(rows, self._config.sure) for rows in posteriors]
        # All at first: torch's threads would be in the way of the threads that search.
        likelihoods = [model.likelihoods(vectors) for vectors in self._vectors()]
        found = find_all(self._graph, likelihoods, self._threads)
        return [
            np.full(len(rows), UNKNOWN, np.int32)
            if path is None
            else sure_labels(path.posteriors, self._config.word_sure)
            for path, rows in zip(found, likelihoods, strict=True)
        ]

    def _labels(self, number: int) -> list[Labels]:
        """Read the labels that a finished round has left, or those that were given."""
        if self._given is not None and number < self._first:
            return self._given
        return read_labels(self._place(number) / LABELS_NAME, self._inputs, self._utterances)

    def _vectors(self) -> Iterator[_Floats]:
        return (self._inputs.vectors(i) for i in self._utterances)

    def _check_variety(self, labels: list[Labels]) -> None:
        """Stop where a few phones stand for all, since that only gets worse."""
        states = self._language.phones
        counts = np.bincount(np.concatenate(labels) + 1, minlength=int(states.max()) + 2)[1:]
        if (counts >= LEAST_FRAMES).sum() < LEAST_PHONES:
            raise Collapsed(
                f"fewer than {LEAST_PHONES} phones have {LEAST_FRAMES} labelled segments; "
                "give it more recordings"
            )
        heard = float(_perplexity(counts[states]))
        wanted = float(_perplexity(self._language.transitions.unigram))
        if heard < LEAST_VARIETY * wanted:
            raise Collapsed(
                f"the labels have collapsed: they are as varied as {heard:.1f} phones, the text as "
                f"{wanted:.1f}; the matching has not understood the recordings"
            )


def best_round(gains: Mapping[int, float]) -> int:
    """Return the round of the highest gain among those that taught a generator, or 0 without any.

    Round 0 has the matching's generator. That was taught otherwise (soft labels, another number of
    updates), which moves the gain by more than a round does, so the two kinds are not compared.

    >>> best_round({0: 4.73, 1: 4.71, 2: 4.72})
    2
    """
    taught = [number for number in gains if number > 0]
    return max(taught, key=lambda number: gains[number]) if taught else 0


def _perplexity(weights: NDArray[Any]) -> float:
    shares = weights / max(weights.sum(), 1e-12)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0
