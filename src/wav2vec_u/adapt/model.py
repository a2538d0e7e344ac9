"""A fine-tuned encoder, and how phones follow each other: from waveforms to what is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.corpus.audio import Samples
from wav2vec_u.finetune.model import FinetunedModel
from wav2vec_u.matching.frame_hmm import HMM_NAME, FrameHmm
from wav2vec_u.runtime.errors import UserError

_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class EmissionReader:
    """Reads log-probabilities of phones as the phone trigram expects them.

    Attributes
    ----------
    hmm : FrameHmm
    """

    hmm: FrameHmm

    @property
    def stride(self) -> int:
        """Every row is a frame."""
        return 1

    def read(self, utterances: Sequence[_Floats], threads: int = 1) -> list[_Floats]:
        """Return p(phone | utterance) of every frame of utterances (T, V), each (T, V)."""
        return self.hmm.read(utterances, threads).posteriors

    def likelihoods(self, log_probs: _Floats) -> _Floats:
        """Return weighted log-likelihoods for a search, up to a number for every frame, (T, V)."""
        return self.hmm.likelihoods(log_probs)


class AdaptedModel:
    """All that it takes to transcribe: the encoder with its linear layer, and the phone trigram.

    Parameters
    ----------
    network : FinetunedModel
        Its units are the phones without the pause, whose place its blank takes.
    hmm : FrameHmm
        Over the phones, the pause being the first of them.

    Attributes
    ----------
    network : FinetunedModel
    reader : EmissionReader
    """

    def __init__(self, network: FinetunedModel, hmm: FrameHmm) -> None:
        self.network = network
        self.reader = EmissionReader(hmm)

    def emissions(self, waveforms: list[Samples]) -> list[_Floats]:
        """Return natural log-probabilities of the phones over time; see `phone_emissions`."""
        return phone_emissions(self.network, waveforms)

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder."""
        self.network.save(folder)
        self.reader.hmm.save(folder / HMM_NAME)

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
        return cls(network, FrameHmm.load(folder / HMM_NAME))


def phone_emissions(network: FinetunedModel, waveforms: list[Samples]) -> list[_Floats]:
    """Return natural log-probabilities (T, V) of each waveform; the pause is the first column.

    T is 0 for a waveform that is shorter than the encoder's receptive field.

    Raises
    ------
    FloatingPointError
        If they are not finite.
    """
    found = []
    for emission in network.emissions(waveforms):
        if not np.isfinite(emission).all():
            raise FloatingPointError("what the network says is not finite")
        found.append(np.roll(emission, 1, axis=1))  # the blank is the last column
    return found


def output_times(n_outputs: int, rate_hz: float) -> NDArray[np.float64]:
    """Return the beginning of every output in the waveform, seconds, (T,)."""
    return np.arange(n_outputs) / rate_hz
