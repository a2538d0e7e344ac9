"""Rounds of fine-tuning: what was understood teaches the encoder, which understands more.

The paper ends so: the encoder is fine-tuned on the labels of self-training. Every round starts from
the pre-trained encoder, so that it does not carry on the errors of the round before in its weights.
The model that taught it is heard beside it: the two err in different places.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.adapt.emissions import write_emissions
from wav2vec_u.adapt.labels import heard_spans, phone_labels, pseudo_labels
from wav2vec_u.adapt.model import AdaptedModel, Reader
from wav2vec_u.adapt.teacher import Teacher
from wav2vec_u.config import AdaptConfig, FinetuneConfig
from wav2vec_u.corpus.rejections import REJECTED_NAME, Rejection, write_rejections
from wav2vec_u.decode.hypotheses import recording_of
from wav2vec_u.decode.stage import decode_utterance
from wav2vec_u.finetune.train import finetune
from wav2vec_u.finetune.units import Units
from wav2vec_u.finetune.utterance import UNKNOWN, LabelledUtterance
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.matching.frame_hmm import PAUSE, FrameHmm, mean_probabilities
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_json, write_jsonl
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.silence.spans import speech_seconds
from wav2vec_u.silence.speech import Utterance
from wav2vec_u.words.hypotheses import FILE_NAME, WordHypothesis, read_word_hypotheses
from wav2vec_u.words.stage import write_words
from wav2vec_u.words.tuning import Tuning

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
    graph : SearchSettings or None
        Where words are to be found; None: phones alone.
    tuning : Tuning
        Weights of the search that are found for every network.
    """

    phones: list[str]
    name: str
    graph: SearchSettings | None
    tuning: Tuning


class Rounds:
    """The rounds, each in a folder of its own.

    Parameters
    ----------
    folder : Path
        Gets ``round_NN/``.
    encoder : str
        See `finetune.backbone.load_backbone`.
    teacher : Teacher
    recordings : Recordings
    language : Language
    config : AdaptConfig
    """

    def __init__(
        self,
        folder: Path,
        encoder: str,
        teacher: Teacher,
        recordings: Recordings,
        language: Language,
        config: AdaptConfig,
    ) -> None:
        self._folder = folder
        self._encoder = encoder
        self._teacher = teacher
        self._recordings = recordings
        self._language = language
        self._config = config
        self._units = Units("phones", tuple(language.phones[1:]), language.name)

    def run(self, first: Sequence[WordHypothesis], resume: bool) -> int | None:
        """Do rounds while the network helps; return the number of the last that did, or None.

        It helps if its teacher and it together agree better with labels that were held out of its
        training than the teacher alone.

        Parameters
        ----------
        first : sequence of WordHypothesis
            What the model before has heard of the utterances that are learned from.
        resume : bool
            Go on from what an interrupted run of the same settings left.
        """
        rows: list[dict[str, float]] = []
        best = None
        for number in range(self._config.rounds):
            place = self.place(number)
            if not (resume and (place / FIGURES_NAME).exists()):
                place.mkdir(parents=True, exist_ok=True)
                heard = first if number == 0 else self._heard(number - 1)
                self._round(number, place, heard, resume)
            self._tidy(place)
            rows.append({"round": number, **self.figures(number)})
            if rows[-1]["agreement"] <= rows[-1]["agreement_before"]:
                break
            best = number
        write_jsonl(self._folder / LOG_NAME, rows)
        return best

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
        result = finetune(
            self._encoder,
            labelled,
            self._units,
            self._settings(labelled, number),
            training,
            resume=resume,
            keep_checkpoint=True,
        )
        emissions = place / _EMISSIONS
        left_out = write_emissions(
            emissions,
            result.model,
            self._teacher,
            list(recordings.utterances.values()),
            recordings.whole,
            config.batch_seconds,
        )
        store = SegmentStore(emissions)
        reader = self._reader(store, labelled)
        held_out = set(result.held_out)
        agreement = self._agreement(
            store,
            reader,
            [utterance for utterance in labelled if utterance.id in held_out],
            result.model.output_rate_hz,
        )
        AdaptedModel(result.model, reader).save(place)
        self._transcribe(place, store, reader)
        unread = [Rejection(**row) for row in read_jsonl(place / REJECTED_NAME)]
        write_rejections(place, [*result.rejected, *left_out, *unread])
        figures = {
            **agreement,
            "validation_error_rate": round(result.validation_error_rate, 3),
            "best_update": result.best_update,
            "hours": round(result.train_seconds / 3600, 3),
        }
        write_json(place / FIGURES_NAME, figures)  # last: a round whose figures stand is done

    def _tidy(self, place: Path) -> None:
        """Remove what a finished round needs no more."""
        for name in (_TRAINING, _EMISSIONS):
            shutil.rmtree(place / name, ignore_errors=True)

    def _settings(self, labelled: Sequence[LabelledUtterance], number: int) -> FinetuneConfig:
        config = self._config
        seconds = sum(utterance.seconds for utterance in labelled)
        epoch = seconds / config.batch_seconds
        updates = max(LEAST_UPDATES, round(config.epochs * epoch))
        return FinetuneConfig(
            updates=updates,
            batch_seconds=config.batch_seconds,
            # None is left out: the silence stage has said how long an utterance may be.
            max_utterance_seconds=max(utterance.seconds for utterance in labelled),
            learning_rate=config.learning_rate,
            linear_learning_rate=config.linear_learning_rate,
            freeze_updates=WARM_UP_UPDATES,
            dropout=config.dropout,
            time_mask_share=config.time_mask_share,
            validate_every=-(-updates // VALIDATIONS),
            device=config.device,
            seed=config.seed + number,
        )

    def _reader(self, store: SegmentStore, labelled: Sequence[LabelledUtterance]) -> Reader:
        config, hmm = self._config, self._teacher.model.hmm
        n_phones = len(self._language.phones)
        prior = mean_probabilities(rows[:, :n_phones] for _, rows in _with_rows(labelled, store))
        return Reader(FrameHmm(hmm.language, prior, config.power, hmm.stay), config.teacher_weight)

    def _agreement(
        self,
        store: SegmentStore,
        reader: Reader,
        held_out: Iterable[LabelledUtterance],
        rate_hz: float,
    ) -> dict[str, float]:
        """Return the share of outputs whose label is the likeliest phone, together and before.

        Pauses do not count.
        """
        n_phones = len(self._language.phones)
        together = before = known = 0
        for utterance, rows in _with_rows(held_out, store):
            labels = phone_labels(utterance.timed or (), len(rows), rate_hz, n_phones)
            said = (labels != UNKNOWN) & (labels != PAUSE)
            known += int(said.sum())
            together += int((reader.likelihoods(rows).argmax(axis=1) == labels)[said].sum())
            before += int((reader.taught(rows).argmax(axis=1) == labels)[said].sum())
        return {
            "agreement": round(together / max(1, known), 5),
            "agreement_before": round(before / max(1, known), 5),
        }

    def _transcribe(self, place: Path, store: SegmentStore, reader: Reader) -> None:
        phones = self._language.phones
        if self._language.graph is not None:
            write_words(
                place,
                store,
                reader,
                phones,
                self._language.graph,
                self._language.tuning,
            )
            return
        write_jsonl(place / FILE_NAME, _read_phones(store, reader, phones))
        write_rejections(place, [])

    def _heard(self, number: int) -> list[WordHypothesis]:
        learned = set(self._recordings.learned)
        return [item for item in read_word_hypotheses(self.place(number)) if item.id in learned]

    def figures(self, number: int) -> dict[str, float]:
        """Return what a finished round has measured."""
        path = self.place(number) / FIGURES_NAME
        try:
            figures: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
            for name in ("agreement", "agreement_before"):
                if not isinstance(figures[name], float):
                    raise TypeError(f"{name} is no number")
            return figures
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: is damaged; remove {self._folder} and run again") from error


def _with_rows(
    utterances: Iterable[LabelledUtterance], store: SegmentStore
) -> Iterator[tuple[LabelledUtterance, _Floats]]:
    """Yield what is known of the outputs of each utterance, (T, 2 V); some may have none."""
    places = {name: i for i, name in enumerate(store.ids)}
    for utterance in utterances:
        if utterance.id in places:
            yield utterance, store.vectors(places[utterance.id])


def _read_phones(
    store: SegmentStore, reader: Reader, phones: list[str]
) -> Iterator[dict[str, object]]:
    """Yield what the phone trigram reads, without words."""
    for i, name in enumerate(store.ids):
        decoded = decode_utterance(reader, store.vectors(i), store.times(i), phones)
        hypothesis = WordHypothesis(name, recording_of(name), store.splits[i], (), decoded.spans)
        yield hypothesis.as_row()
