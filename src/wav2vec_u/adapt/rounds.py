"""Rounds of fine-tuning: what was understood teaches the encoder, which understands more.

The paper ends so: the encoder is fine-tuned on the labels of self-training. Every round starts from
the pre-trained encoder, so that it does not carry on the errors of the round before in its weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec_u.adapt.emissions import write_emissions
from wav2vec_u.adapt.labels import heard_spans, phone_labels, pseudo_labels
from wav2vec_u.adapt.model import AdaptedModel, Reader
from wav2vec_u.config import AdaptConfig, FinetuneConfig
from wav2vec_u.corpus.rejections import REJECTED_NAME, Rejection, write_rejections
from wav2vec_u.decode.hypotheses import recording_of
from wav2vec_u.decode.stage import decode_utterance
from wav2vec_u.finetune.train import finetune
from wav2vec_u.finetune.units import Units
from wav2vec_u.finetune.utterance import LabelledUtterance
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.matching.decipherment import CodeLanguage
from wav2vec_u.matching.frame_hmm import FrameHmm, mean_probabilities
from wav2vec_u.matching.lessons import BLOCK_SEGMENTS, blocks
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_json, write_jsonl
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.selftrain.mixtures import Mixtures
from wav2vec_u.silence.spans import speech_seconds
from wav2vec_u.silence.speech import Utterance
from wav2vec_u.words.hypotheses import FILE_NAME, WordHypothesis, read_word_hypotheses
from wav2vec_u.words.stage import write_words

FIGURES_NAME = "figures.json"
LOG_NAME = "log.jsonl"
LEAST_UPDATES = 100  # however few the recordings
WARM_UP_UPDATES = 20  # in which the linear layer learns alone what the encoder already says
VALIDATIONS = 4  # in a training
_EMISSIONS = "emissions"
_TRAINING = "training"

_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Recordings:
    """What is listened to.

    Attributes
    ----------
    utterances : dict of str to Utterance
        By id.
    learned : list of str
        Ids of those that are learned from.
    whole : bool
        Whether they are heard with their pauses.
    """

    utterances: dict[str, Utterance]
    learned: list[str]
    whole: bool

    def seconds(self, name: str) -> float:
        """Duration of what is heard of an utterance."""
        return speech_seconds(heard_spans(self.utterances[name], self.whole))


@dataclass(frozen=True)
class Language:
    """What is expected of the phones.

    Attributes
    ----------
    phones : list of str
        The inventory; the first is the pause.
    name : str
    trigram : CodeLanguage
    stay : float
        Probability that a frame goes on with the phone of the one before it.
    graph : SearchSettings or None
        Where words are to be found; None: phones alone.
    """

    phones: list[str]
    name: str
    trigram: CodeLanguage
    stay: float
    graph: SearchSettings | None


class Rounds:
    """The rounds, each in a folder of its own.

    Parameters
    ----------
    folder : Path
        Gets ``round_NN/``.
    encoder : str
        See `finetune.backbone.load_backbone`.
    recordings : Recordings
    language : Language
    config : AdaptConfig
    """

    def __init__(
        self,
        folder: Path,
        encoder: str,
        recordings: Recordings,
        language: Language,
        config: AdaptConfig,
    ) -> None:
        self._folder = folder
        self._encoder = encoder
        self._recordings = recordings
        self._language = language
        self._config = config
        self._units = Units("phones", tuple(language.phones[1:]), language.name)

    def run(self, first: Sequence[WordHypothesis], resume: bool) -> list[float]:
        """Do rounds while the gain rises; return the gain of each.

        Parameters
        ----------
        first : sequence of WordHypothesis
            What the model before has heard of the utterances that are learned from.
        resume : bool
            Go on from what an interrupted run of the same settings left.
        """
        gains: list[float] = []
        for number in range(self._config.rounds):
            place = self.place(number)
            if not (resume and (place / FIGURES_NAME).exists()):
                place.mkdir(parents=True, exist_ok=True)
                heard = first if number == 0 else self._heard(number - 1)
                self._round(number, place, heard, resume)
            gains.append(self._gain(number))
            if gains[-1] < max(gains):
                break
        write_jsonl(
            self._folder / LOG_NAME,
            ({"round": number, **self._figures(number)} for number in range(len(gains))),
        )
        return gains

    def place(self, number: int) -> Path:
        """Return the folder of a round: an `AdaptedModel`, and what it has heard."""
        return self._folder / f"round_{number:02d}"

    def _round(
        self, number: int, place: Path, heard: Sequence[WordHypothesis], resume: bool
    ) -> None:
        recordings, config = self._recordings, self._config
        labelled = list(
            pseudo_labels(
                heard, recordings.utterances, self._units, recordings.whole, config.min_confidence
            )
        )
        training = place / _TRAINING
        training.mkdir(exist_ok=True)
        seconds = sum(utterance.seconds for utterance in labelled)
        result = finetune(
            self._encoder,
            labelled,
            self._units,
            self._settings(seconds, number),
            training,
            resume=resume,
        )
        emissions = place / _EMISSIONS
        left_out = write_emissions(
            emissions,
            result.model,
            list(recordings.utterances.values()),
            recordings.whole,
            config.batch_seconds,
        )
        store = SegmentStore(emissions)
        reader, gain = self._fit(store, labelled, result.model.output_rate_hz, number)
        AdaptedModel(result.model, reader).save(place)
        self._transcribe(place, store, reader)
        unread = [Rejection(**row) for row in read_jsonl(place / REJECTED_NAME)]
        write_rejections(place, [*result.rejected, *left_out, *unread])
        figures = {
            "gain": round(gain, 5),
            "validation_error_rate": round(result.validation_error_rate, 3),
            "best_update": result.best_update,
            "hours": round(result.train_seconds / 3600, 3),
        }
        shutil.rmtree(training)
        shutil.rmtree(emissions)
        write_json(place / FIGURES_NAME, figures)  # last: a round whose figures stand is done

    def _settings(self, seconds: float, number: int) -> FinetuneConfig:
        config = self._config
        epoch = seconds / config.batch_seconds
        updates = max(LEAST_UPDATES, round(config.epochs * epoch))
        return FinetuneConfig(
            updates=updates,
            batch_seconds=config.batch_seconds,
            learning_rate=config.learning_rate,
            linear_learning_rate=config.linear_learning_rate,
            freeze_updates=WARM_UP_UPDATES,
            dropout=config.dropout,
            time_mask_share=config.time_mask_share,
            validate_every=-(-updates // VALIDATIONS),
            device=config.device,
            seed=config.seed + number,
        )

    def _fit(
        self,
        store: SegmentStore,
        labelled: Sequence[LabelledUtterance],
        rate_hz: float,
        number: int,
    ) -> tuple[Reader, float]:
        """Return what reads the rows, and the likelihood gain, nats a frame of speech.

        The gain is the measure of `selftrain.rounds`: how much likelier frames are under the phone
        trigram than if the network, standing alone, knew nothing.
        """
        config, language = self._config, self._language
        places = {name: i for i, name in enumerate(store.ids)}
        n_phones = len(language.phones)

        def said() -> Iterator[_Floats]:
            for utterance in labelled:
                if utterance.id in places:
                    yield store.vectors(places[utterance.id])[:, :n_phones]

        def hidden() -> Iterator[tuple[_Floats, NDArray[np.int32]]]:
            for utterance in labelled:
                if utterance.id in places:
                    rows = store.vectors(places[utterance.id])
                    labels = phone_labels(utterance.timed or (), len(rows), rate_hz, n_phones)
                    yield np.ascontiguousarray(rows[:, n_phones:]), labels

        prior = mean_probabilities(said())
        # Both together count as much as the network does where it stands alone.
        alone = FrameHmm(language.trigram, prior, 2 * config.power, language.stay)
        gain = voiced = 0.0
        for block in blocks(said(), BLOCK_SEGMENTS):
            read = alone.read(block, torch.get_num_threads())
            gain += read.gain
            voiced += read.voiced
        mixtures = Mixtures(
            config.mixture_context,
            config.mixture_dim,
            config.mixture_components,
            config.seed + number,
        ).fit(hidden, n_phones)
        reader = Reader(replace(alone, power=config.power), mixtures, config.mixture_power)
        return reader, gain / max(1.0, voiced)

    def _transcribe(self, place: Path, store: SegmentStore, reader: Reader) -> None:
        phones = self._language.phones
        if self._language.graph is not None:
            write_words(place, store, reader, phones, self._language.graph)
            return
        write_jsonl(place / FILE_NAME, _read_phones(store, reader, phones))
        write_rejections(place, [])

    def _heard(self, number: int) -> list[WordHypothesis]:
        learned = set(self._recordings.learned)
        return [item for item in read_word_hypotheses(self.place(number)) if item.id in learned]

    def _gain(self, number: int) -> float:
        return self._figures(number)["gain"]

    def _figures(self, number: int) -> dict[str, float]:
        path = self.place(number) / FIGURES_NAME
        try:
            figures: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(figures["gain"], float):
                raise TypeError("the gain is no number")
            return figures
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: is damaged; remove {self._folder} and run again") from error


def _read_phones(
    store: SegmentStore, reader: Reader, phones: list[str]
) -> Iterator[dict[str, object]]:
    """Yield what the phone trigram reads, without words."""
    for i, name in enumerate(store.ids):
        decoded = decode_utterance(reader, store.vectors(i), store.times(i), phones)
        hypothesis = WordHypothesis(name, recording_of(name), store.splits[i], (), decoded.spans)
        yield hypothesis.as_row()
