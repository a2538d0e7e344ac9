"""From synthetic speech to real recordings, round by round, without a label of theirs.

Round 0: a generator learns the phones of the unpaired text read aloud (`synthetic`). A hidden
Markov model with the text's trigram reads the recordings through it (`frame_hmm`). What it is sure
of becomes the labels of the next generator, beside the synthetic speech, which holds the phones in
their places. Hard labels, and only sure ones: posteriors as labels drift away (RESULTS.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec_u.config import MatchingConfig, SyntheticConfig
from wav2vec_u.matching.batches import TextSource, draw_within, training_utterances
from wav2vec_u.matching.decipherment import CodeLanguage, learn_language
from wav2vec_u.matching.frame_hmm import HMM_NAME, FrameHmm, Read, mean_probabilities
from wav2vec_u.matching.frame_teacher import UNKNOWN, teach
from wav2vec_u.matching.generator import (
    GENERATOR_NAME,
    Generator,
    load_generator,
    log_probs,
    save_generator,
)
from wav2vec_u.matching.lessons import (
    BLOCK_SEGMENTS,
    blocks,
    read_labels,
    recorded_lessons,
    sure_labels,
    synthetic_lessons,
)
from wav2vec_u.matching.selection import Candidate, spoken_phones
from wav2vec_u.matching.synthetic import SyntheticSegments
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_jsonl
from wav2vec_u.runtime.progress import progress
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.segments.store import SegmentStore

LABELS_NAME = "labels.npy"
FIGURES_NAME = "figures.json"


@dataclass(frozen=True)
class Heard:
    """A finished restart.

    Attributes
    ----------
    member : int
        Its number; its files are in ``member_NN``.
    generator : Generator
    hmm : FrameHmm
    gain : float
        See `frame_hmm.Read`, of the training utterances.
    candidate : Candidate
        What the model says about the scored utterances.
    """

    member: int
    generator: Generator
    hmm: FrameHmm
    gain: float
    candidate: Candidate


def learn_in_rounds(
    folder: Path,
    segments: SegmentStore,
    synthetic: SyntheticSegments,
    text: TextSource,
    config: MatchingConfig,
    *,
    utterances: list[int],
    scored: list[int],
    resume: bool,
    threads: int,
) -> list[Heard]:
    """Make ``config.seeds`` restarts, which differ in their first weights and in what is drawn.

    Parameters
    ----------
    folder : Path
        Gets ``member_NN/round_NN/`` with the generator, its model of frames, and its figures.
    segments : SegmentStore
        Of the recordings.
    synthetic : SyntheticSegments
    text : TextSource
    config : MatchingConfig
    utterances : list of int
        Of `segments`, to learn from.
    scored : list of int
        Of `segments`, that restarts are compared on.
    resume : bool
        Go on from the rounds that an interrupted run of the same settings left.
    threads : int

    Raises
    ------
    UserError
        If there is too little text.
    """
    language = learn_language(
        text, config.synthetic.min_phone_share, "matching.synthetic.min_phone_share"
    )
    found = []
    for member in range(config.seeds):
        seed = int(numpy_generator(config.seed, "restart", member).integers(2**31))
        rounds = _Rounds(
            folder / f"member_{member:02d}",
            segments,
            synthetic,
            utterances,
            language,
            len(text.phones),
            config.synthetic,
            seed,
            threads,
        )
        for number in progress(range(config.synthetic.rounds + 1), label=f"restart {member}"):
            rounds.run(number, resume)
        generator, hmm, gain = rounds.load(config.synthetic.rounds)
        candidate = say(generator, hmm, segments, scored, threads)
        found.append(Heard(member, generator, hmm, gain, candidate))
    return found


def learning_utterances(segments: SegmentStore, max_seconds: float, seed: int) -> list[int]:
    """Choose the utterances of split ``train`` that are learned from, at random.

    Raises
    ------
    UserError
        If there is none.
    """

    def seconds(i: int) -> float:
        times = segments.times(i)  # (S, 2)
        return float((times[:, 1] - times[:, 0]).sum())

    rng = numpy_generator(seed, "utterances to learn from")
    return draw_within(training_utterances(segments), seconds, max_seconds, rng)


def say(
    generator: Generator,
    hmm: FrameHmm,
    segments: SegmentStore,
    utterances: Sequence[int],
    threads: int,
) -> Candidate:
    """Transcribe utterances, for selection."""
    hypotheses = []
    log_prob = 0.0
    for posteriors in chain.from_iterable(
        read.posteriors for read in _read(generator, hmm, segments, utterances, threads)
    ):
        best = posteriors.argmax(axis=1)
        log_prob += float(np.log(posteriors.max(axis=1)).sum())
        hypotheses.append(spoken_phones(best))
    return Candidate(hypotheses, log_prob)


class _Rounds:
    """The rounds of one restart, each in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        segments: SegmentStore,
        synthetic: SyntheticSegments,
        utterances: list[int],
        language: CodeLanguage,
        n_outputs: int,
        config: SyntheticConfig,
        seed: int,
        threads: int,
    ) -> None:
        self.folder = folder
        self.segments = segments
        self.synthetic = synthetic
        self.utterances = utterances
        self.language = language
        self.n_outputs = n_outputs
        self.config = config
        self.seed = seed
        self.threads = threads

    def run(self, number: int, resume: bool) -> None:
        """Do a round, unless an earlier run has done it."""
        place = self._place(number)
        if resume and (place / FIGURES_NAME).exists():
            return
        place.mkdir(parents=True, exist_ok=True)
        seed = int(numpy_generator(self.seed, "round", number).integers(2**31))
        share = self.config.synthetic_share if number > 0 else 1.0
        lessons = synthetic_lessons(self.synthetic, share, seed)
        if number > 0:
            path = self._place(number - 1) / LABELS_NAME
            before = read_labels(path, self.segments, self.utterances)
            lessons += recorded_lessons(self.segments, self.utterances, before)
        generator = self._untrained(seed)
        epochs = self.config.epochs if number > 0 else self.config.start_epochs
        loss = teach(
            generator,
            lessons,
            epochs=epochs,
            learning_rate=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            seed=seed,
        )
        if not math.isfinite(loss):
            raise UserError(
                f"matching: in round {number} the loss is no longer a number; "
                "lower matching.synthetic.learning_rate"
            )
        hmm = self._model(generator, number)
        save_generator(place / GENERATOR_NAME, generator)
        hmm.save(place / HMM_NAME)
        labels, gain = self._read_all(generator, hmm)
        np.save(place / LABELS_NAME, labels)
        sure = float((labels != UNKNOWN).mean())
        figures = {"loss": round(loss, 5), "gain": round(gain, 5), "sure": round(sure, 5)}
        write_json(place / FIGURES_NAME, figures)  # last: a round whose figures stand is done
        # Written anew each time, so that a run that was killed in between tells no round twice.
        rounds = range(number + 1)
        write_jsonl(
            self.folder / "log.jsonl",
            ({"round": done, **self._figures(done)} for done in rounds),
        )

    def load(self, number: int) -> tuple[Generator, FrameHmm, float]:
        """Return what a finished round has learned, and its gain."""
        place = self._place(number)
        return (
            load_generator(place / GENERATOR_NAME),
            FrameHmm.load(place / HMM_NAME),
            self._figures(number)["gain"],
        )

    def _figures(self, number: int) -> dict[str, float]:
        figures: dict[str, float] = json.loads(
            (self._place(number) / FIGURES_NAME).read_text(encoding="utf-8")
        )
        return figures

    def _place(self, number: int) -> Path:
        return self.folder / f"round_{number:02d}"

    def _untrained(self, seed: int) -> Generator:
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # torch's initialisers know no other generator
            return Generator(
                self.segments.dim,
                self.n_outputs,
                kernel=config.generator_kernel,
                dropout=config.generator_dropout,
                batch_norm=1.0,
                hidden=config.generator_hidden,
            )

    def _read_all(self, generator: Generator, hmm: FrameHmm) -> tuple[NDArray[np.int32], float]:
        """Return the labels of all recordings, one behind the other, and the gain a segment."""
        labels = []
        gain = voiced = 0.0
        for read in _read(generator, hmm, self.segments, self.utterances, self.threads):
            gain += read.gain
            voiced += read.voiced
            labels += [sure_labels(rows, self.config.sure) for rows in read.posteriors]
        return np.concatenate(labels), gain / max(voiced, 1.0)

    def _model(self, generator: Generator, number: int) -> FrameHmm:
        """Take the prior from the labels of synthetic speech at first, then from what is heard."""
        if number == 0:
            counts = np.ones(self.n_outputs)
            for i in range(len(self.synthetic)):
                labels = self.synthetic.labels(i)
                counts += np.bincount(labels[labels != UNKNOWN], minlength=self.n_outputs)
            prior = (counts / counts.sum()).astype(np.float32)
        else:
            prior = mean_probabilities(
                log_probs(generator, self.segments.vectors(i)) for i in self.utterances
            )
        config = self.config
        return FrameHmm(self.language, prior, config.power, config.stay_probability)


def _read(
    generator: Generator,
    hmm: FrameHmm,
    segments: SegmentStore,
    utterances: Sequence[int],
    threads: int,
) -> Iterator[Read]:
    """Read utterances, some thousand segments at a time."""
    said = (log_probs(generator, segments.vectors(i)) for i in utterances)
    for block in blocks(said, BLOCK_SEGMENTS):
        yield hmm.read(block, threads)
