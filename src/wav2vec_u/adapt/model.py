"""A fine-tuned encoder and what reads it: from waveforms to what is said.

A row is what is known of one output of the network: first the network's log-probabilities of the
phones, behind them the log-likelihoods of the model that taught it (`adapt.teacher`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.corpus.audio import Samples
from wav2vec_u.finetune.model import FinetunedModel
from wav2vec_u.matching.frame_hmm import HMM_NAME, FrameHmm
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json

READER_NAME = "reader.json"

_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Reader:
    """Reads rows as the phone trigram expects them: network and teacher err in other places.

    Attributes
    ----------
    hmm : FrameHmm
        Its `power` weighs the network.
    teacher_weight : float
        Factor on the log-likelihoods of the teacher, which have their own powers in them.
    """

    hmm: FrameHmm
    teacher_weight: float

    @property
    def stride(self) -> int:
        """Every row is a frame."""
        return 1

    @property
    def stay(self) -> float:
        """Probability that a frame goes on with the phone of the one before it."""
        return self.hmm.stay

    def read(self, utterances: Sequence[_Floats], threads: int = 1) -> list[_Floats]:
        """Return p(phone | utterance) of every frame of utterances (T, 2 V), each (T, V)."""
        said = [self.log_probs(rows) for rows in utterances]
        others = [self._weighted(rows) for rows in utterances]
        return self.hmm.read(said, threads, others).posteriors

    def likelihoods(self, rows: _Floats) -> _Floats:
        """Return weighted log-likelihoods for a search, up to a number for every frame, (T, V)."""
        scores: _Floats = self.hmm.likelihoods(self.log_probs(rows)) + self._weighted(rows)
        return scores

    def views(self, rows: _Floats) -> tuple[_Floats, _Floats] | None:
        """Return what network and teacher say alone; see `FrameReader.views`."""
        if self.teacher_weight == 0:
            return None
        return 2 * self.hmm.likelihoods(self.log_probs(rows)), 2 * self._weighted(rows)

    def log_probs(self, rows: _Floats) -> _Floats:
        """Return what the network alone says, (T, V)."""
        return rows[:, : len(self.hmm.prior)]

    def taught(self, rows: _Floats) -> _Floats:
        """Return what the teacher alone says, (T, V)."""
        return rows[:, len(self.hmm.prior) :]

    def _weighted(self, rows: _Floats) -> _Floats:
        weighted: _Floats = self.teacher_weight * self.taught(rows)
        return weighted

    def save(self, folder: Path) -> None:
        """Write the reader into an existing folder."""
        self.hmm.save(folder / HMM_NAME)
        write_json(folder / READER_NAME, {"teacher_weight": self.teacher_weight})

    @classmethod
    def load(cls, folder: Path) -> Reader:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If a file is missing or damaged.
        """
        path = folder / READER_NAME
        try:
            weight = float(json.loads(path.read_text(encoding="utf-8"))["teacher_weight"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: is missing or damaged; run the adapt stage again") from error
        return cls(FrameHmm.load(folder / HMM_NAME), weight)


@dataclass(frozen=True)
class AdaptedModel:
    """All that it takes to transcribe.

    Attributes
    ----------
    network : FinetunedModel
        Its units are the phones without the pause, whose place its blank takes.
    reader : Reader
        Of phones, the pause being the first of them.
    """

    network: FinetunedModel
    reader: Reader

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder."""
        self.network.save(folder)
        self.reader.save(folder)

    @classmethod
    def load(cls, folder: Path, phones: Sequence[str]) -> AdaptedModel:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If a file is missing or damaged, or the model knows other phones than `phones`.
        """
        network = FinetunedModel.load(folder)
        if list(network.units.symbols) != list(phones[1:]):
            raise UserError(f"{folder}: knows other phones than the text; run the stage again")
        return cls(network, Reader.load(folder))


def listen(network: FinetunedModel, waveforms: list[Samples]) -> list[_Floats]:
    """Return the log-probabilities of each waveform, (T, V): the pause is the first column.

    T is 0 for a waveform that is shorter than the encoder's receptive field.

    Raises
    ------
    FloatingPointError
        If they are not finite.
    """
    found = []
    for emission in network.emissions(waveforms):
        log_probs = np.roll(emission, 1, axis=1)  # the blank is last, and the pause the first phone
        if not np.isfinite(log_probs).all():
            raise FloatingPointError("what the network says is not finite")
        found.append(log_probs)
    return found


def output_times(n_outputs: int, rate_hz: float) -> NDArray[np.float64]:
    """Return the beginning of every output in the waveform, seconds, (T,)."""
    return np.arange(n_outputs) / rate_hz
