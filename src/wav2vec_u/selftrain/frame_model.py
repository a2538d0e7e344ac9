"""All that says which phone a frame is: a generator, mixtures beside it, and how phones follow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.matching.frame_hmm import HMM_NAME, FrameHmm
from wav2vec_u.matching.generator import (
    GENERATOR_NAME,
    Generator,
    load_generator,
    log_probs,
    save_generator,
)
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json
from wav2vec_u.selftrain.inputs import Reads
from wav2vec_u.selftrain.mixtures import Mixtures

MIXTURES_NAME = "mixtures.safetensors"
_SETTINGS_NAME = "model.json"

_Floats = NDArray[np.float32]


class FrameReader(Protocol):
    """Reads rows of numbers as phones: the segments of an utterance, or what a network made of it.

    Attributes
    ----------
    stride : int
        Rows that become one frame.
    stay : float
        Probability that a frame goes on with the phone of the one before it.
    """

    @property
    def stride(self) -> int: ...
    @property
    def stay(self) -> float: ...

    def read(self, utterances: Sequence[_Floats], threads: int = 1) -> list[_Floats]:
        """Return p(output | utterance) of every frame of utterances (S, P), each (S', V)."""

    def likelihoods(self, vectors: _Floats) -> _Floats:
        """Return weighted log-likelihoods for a search, up to a number for every frame, (S', V)."""

    def views(self, vectors: _Floats) -> tuple[_Floats, _Floats] | None:
        """Return what each of two parts says alone, each with the weight of both, (S', V) twice.

        None where there is one part alone.
        """


@dataclass(frozen=True)
class FrameModel:
    """A generator with what reads it.

    Attributes
    ----------
    generator : Generator
        In evaluation mode.
    hmm : FrameHmm
        The phone trigram over its outputs; its `power` weighs the generator.
    mixtures : Mixtures or None
        None where the generator stands alone.
    mixture_power : float
        Exponent of their likelihoods.
    reads : {"segments", "frames"}
        What its vectors are; see `inputs.open_inputs`.
    """

    generator: Generator
    hmm: FrameHmm
    mixtures: Mixtures | None = None
    mixture_power: float = 0.0
    reads: Reads = "segments"

    @property
    def stride(self) -> int:
        """Rows that become one frame."""
        return self.generator.stride

    @property
    def stay(self) -> float:
        """Probability that a frame goes on with the phone of the one before it."""
        return self.hmm.stay

    def read(self, utterances: Sequence[_Floats], threads: int = 1) -> list[_Floats]:
        """Return p(output | utterance) of every frame of utterances (S, P), each (S', V).

        Parameters
        ----------
        utterances : sequence of (S, P) float32
        threads : int
        """
        said = [checked_log_probs(self.generator, vectors) for vectors in utterances]
        others = None
        if self.mixtures is not None:
            others = [self._weighted(vectors, self.mixtures) for vectors in utterances]
        return self.hmm.read(said, threads, others).posteriors

    def likelihoods(self, vectors: _Floats) -> _Floats:
        """Return weighted log-likelihoods for a search, up to a number for every frame, (S', V)."""
        scores = self.hmm.likelihoods(checked_log_probs(self.generator, vectors))
        if self.mixtures is not None:
            scores = scores + self._weighted(vectors, self.mixtures)
        return scores

    def views(self, vectors: _Floats) -> tuple[_Floats, _Floats] | None:
        """Return what the generator and the mixtures say alone; see `FrameReader.views`."""
        if self.mixtures is None:
            return None
        said = self.hmm.likelihoods(checked_log_probs(self.generator, vectors))
        return 2 * said, 2 * self._weighted(vectors, self.mixtures)

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder."""
        save_generator(folder / GENERATOR_NAME, self.generator)
        self.hmm.save(folder / HMM_NAME)
        if self.mixtures is not None:
            self.mixtures.save(folder / MIXTURES_NAME)
        settings = {
            "mixtures": self.mixtures is not None,
            "mixture_power": self.mixture_power,
            "reads": self.reads,
        }
        write_json(folder / _SETTINGS_NAME, settings)

    @classmethod
    def load(cls, folder: Path) -> FrameModel:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If a file is missing or damaged.
        """
        path = folder / _SETTINGS_NAME
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            has_mixtures, power = bool(settings["mixtures"]), float(settings["mixture_power"])
            reads = settings["reads"]
            if reads not in get_args(Reads):
                raise ValueError(f"reads {reads}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: is missing or damaged; run the self-training again"
            ) from error
        return cls(
            load_generator(folder / GENERATOR_NAME),
            FrameHmm.load(folder / HMM_NAME),
            Mixtures.load(folder / MIXTURES_NAME) if has_mixtures else None,
            power,
            reads,
        )

    def _weighted(self, vectors: _Floats, mixtures: Mixtures) -> _Floats:
        weighted: _Floats = self.mixture_power * mixtures.log_likelihoods(vectors)
        return weighted


def require_phones(generator: Generator, phones: Sequence[str]) -> None:
    """Refuse a generator that was made for other phones.

    Raises
    ------
    UserError
        If it does not have just as many outputs.
    """
    known = generator.settings["n_phones"]
    if known != len(phones):
        raise UserError(
            f"matching: its generator knows {known} phones and phones.txt has {len(phones)}; "
            "run the matching stage again"
        )


def checked_log_probs(generator: Generator, vectors: _Floats) -> _Floats:
    """Return what a generator says of an utterance (S, P): logarithms, (S', V).

    S' is the number of its strides in S, whatever its padding adds.

    Raises
    ------
    UserError
        If the generator was made for other segments.
    FloatingPointError
        If what it says is not finite.
    """
    if len(vectors) == 0:
        return np.zeros((0, generator.settings["n_phones"]), np.float32)
    try:
        scores = log_probs(generator, vectors)
    except RuntimeError as error:
        raise UserError(
            f"matching: its generator does not fit segments of {vectors.shape[1]} dimensions; "
            "run the matching stage again"
        ) from error
    if not np.isfinite(scores).all():
        raise FloatingPointError("the generator's scores are not finite")
    return scores[: -(-len(vectors) // generator.stride)]
