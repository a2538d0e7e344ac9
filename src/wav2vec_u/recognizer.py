"""A finished run as one object: audio in, words and phones with times out.

The way of a file is that of the training data, through the same functions: voice activity
detection, then the fine-tuned encoder, or frames, segments and what reads them. Long files go
through it utterance by utterance.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wav2vec_u.adapt.emissions import middles_of, times_in_recording
from wav2vec_u.adapt.model import AdaptedModel, listen
from wav2vec_u.adapt.stage import is_taken
from wav2vec_u.adapt.teacher import likelihoods_at
from wav2vec_u.config import RunConfig
from wav2vec_u.corpus.audio import AudioError, probe_audio
from wav2vec_u.decode.stage import decode_utterance
from wav2vec_u.decode.transcript import TranscribedUtterance, Transcript
from wav2vec_u.features.encoder import Encoder, load_encoder
from wav2vec_u.features.extract import Extractor, Rejected
from wav2vec_u.graph.stage import usable
from wav2vec_u.runtime.artifact import read_record
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.blocks import is_usable
from wav2vec_u.segments.boundaries import bounds_in_seconds
from wav2vec_u.segments.frame_segmenter import FrameSegmenter
from wav2vec_u.segments.load import load_segmenter
from wav2vec_u.segments.segmenter import Segmenter
from wav2vec_u.segments.unpooled import Unpooler
from wav2vec_u.selftrain.frame_model import FrameModel, FrameReader
from wav2vec_u.selftrain.inputs import Reads
from wav2vec_u.silence.spans import Span, split_spans
from wav2vec_u.silence.speech import Utterance, load_waveform
from wav2vec_u.silence.vad import find_speech, load_vad
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.words.decoder import WordDecoder

RUN_FILE = "run.json"
_NEEDED_STAGES = ("features", "segments", "text", "matching", "selftrain")

_Floats = npt.NDArray[np.float32]


class Hearing(Protocol):
    """Turns an utterance into rows of numbers that a model reads, and their times."""

    def hear(self, utterance: Utterance) -> tuple[_Floats, _Floats]:
        """Return rows (S, P) and their times (S, 2); S is 0 where nothing was said."""


@dataclass(frozen=True)
class SegmentHearing:
    """The way of the training data: frames, then segments, or frames again that are not pooled.

    Attributes
    ----------
    encoder : Encoder
    extractor : Extractor
    segmenter : Segmenter, FrameSegmenter or Unpooler
    """

    encoder: Encoder
    extractor: Extractor
    segmenter: Segmenter | FrameSegmenter | Unpooler

    @classmethod
    def load(cls, run_dir: Path, config: RunConfig, reads: Reads) -> SegmentHearing:
        """Load the encoder of a finished run, and what makes of its frames what its model reads.

        Raises
        ------
        UserError
            If the two do not fit together.
        """
        encoder = load_encoder(config.features)
        segmenter: Segmenter | FrameSegmenter | Unpooler = load_segmenter(run_dir / "segments")
        if reads == "frames" and isinstance(segmenter, Segmenter):
            segmenter = Unpooler(segmenter.pca_, encoder.frame_rate_hz)
        learned_dim = segmenter.frame_dim
        if learned_dim != encoder.dim:
            raise UserError(
                f"{run_dir}: {encoder.name} gives frames of {encoder.dim} numbers, the run has "
                f"learned from {learned_dim}; restore the encoder or run again"
            )
        return cls(encoder, Extractor(encoder, config.features, config.silence.mode), segmenter)

    def hear(self, utterance: Utterance) -> tuple[_Floats, _Floats]:
        """See `Hearing.hear`."""
        nothing = np.zeros((0, self.segmenter.dim), np.float32), np.zeros((0, 2), np.float32)
        (extracted,) = self.extractor.encode([utterance], self.extractor.load([utterance]))
        if isinstance(extracted, Rejected):  # too short for a frame, say
            return nothing
        # Rounded as the frame store rounds: the segmenter has learned from such frames, and the
        # result is that of the run's own decoding to the last digit.
        frames = extracted.frames.astype(np.float16).astype(np.float32)  # (T, D)
        if not is_usable(frames):
            return nothing
        segments = self.segmenter.transform(frames)
        times = bounds_in_seconds(segments.bounds, extracted.times, self.encoder.frame_rate_hz)
        return segments.vectors, times


@dataclass(frozen=True)
class EncoderHearing:
    """The fine-tuned encoder, with the model that taught it.

    Attributes
    ----------
    model : AdaptedModel
    whole : bool
        Whether it hears utterances with their pauses.
    teacher : FrameModel
    segments : SegmentHearing
        What the teacher reads.
    """

    model: AdaptedModel
    whole: bool
    teacher: FrameModel
    segments: SegmentHearing

    def hear(self, utterance: Utterance) -> tuple[_Floats, _Floats]:
        """See `Hearing.hear`."""
        try:
            samples, _ = load_waveform(utterance, "mask" if self.whole else "cut")
        except AudioError:
            samples = np.zeros(0, np.float32)
        (heard,) = listen(self.model.network, [samples])
        rate_hz = self.model.network.output_rate_hz
        starts = times_in_recording(utterance, self.whole, len(heard), rate_hz)
        taught = likelihoods_at(
            self.teacher, *self.segments.hear(utterance), middles_of(starts, rate_hz)
        )
        rows = np.concatenate([heard, taught], axis=1)
        return rows, np.stack([starts, starts + np.float32(1 / rate_hz)], axis=1)


class Recognizer:
    """Everything a run has learned that is needed to transcribe.

    Parameters
    ----------
    config : RunConfig
        Settings of the run, for silence.
    hearing : Hearing
    model : FrameReader
        What says which phone a row is.
    phones : list of str
        Names of its outputs; the first is silence.
    words : WordDecoder or None
        What finds words, where the run decodes them.

    Examples
    --------
    >>> recognizer = Recognizer.load(Path("runs/kerstin"))  # doctest: +SKIP
    >>> [span.phone for span in recognizer.transcribe("new.wav").phones]  # doctest: +SKIP
    ['h', 'a', 'l', 'oː']
    """

    def __init__(
        self,
        config: RunConfig,
        hearing: Hearing,
        model: FrameReader,
        phones: list[str],
        words: WordDecoder | None = None,
    ) -> None:
        self.config = config
        self.phones = phones
        self._hearing = hearing
        self._model = model
        self._words = words
        self._vad = load_vad(config.silence)

    @classmethod
    def load(cls, run_dir: str | Path) -> Recognizer:
        """Read a finished run: its fine-tuned encoder where there is one, else what was before.

        Raises
        ------
        UserError
            If the folder holds no finished run, or its parts do not fit together.
        """
        run_dir = Path(run_dir)
        config = read_run_config(run_dir)
        for stage in _NEEDED_STAGES:
            if read_record(run_dir / stage) is None:
                raise UserError(
                    f"{run_dir}: the run is not finished ({stage} is missing); "
                    "give its `wav2vec-u run` command again to go on"
                )
        phones = PhoneText(run_dir / "text").phones
        before = FrameModel.load(run_dir / "selftrain")
        segments = SegmentHearing.load(run_dir, config, before.reads)
        hearing: Hearing = segments
        model: FrameReader = before
        found = run_dir / "words"
        if is_taken(run_dir / "adapt"):
            found = run_dir / "adapt"
            adapted = AdaptedModel.load(run_dir / "adapt", phones)
            hearing = EncoderHearing(adapted, config.silence.mode == "mask", before, segments)
            model = adapted.reader
        return cls(config, hearing, model, phones, _load_words(run_dir, config, model, found))

    def transcribe(self, path: str | Path, alternatives: int = 0) -> Transcript:
        """Recognise one audio file of any length and sample rate.

        Memory is bounded by the longest utterance (`silence.max_utterance_seconds`), not by the
        file. A file without speech gives a transcript without utterances.

        Parameters
        ----------
        path : str or Path
        alternatives : int
            How many other word sequences are told of every utterance, at most.

        Raises
        ------
        UserError
            If the file cannot be read as audio.
        """
        path = Path(path)
        try:
            seconds = probe_audio(path).seconds
            spans = find_speech(str(path), self._vad, self.config.silence)
        except AudioError as error:
            raise UserError(f"{path}: cannot be transcribed, {error.detail}") from error
        pieces = []
        if spans:
            pieces = split_spans(
                spans,
                self.config.silence.max_utterance_seconds,
                count_pauses=self.config.silence.mode == "mask",
            )
        utterances = [
            self._transcribe_piece(path, number, piece, alternatives)
            for number, piece in enumerate(pieces, start=1)
        ]
        return Transcript(str(path), seconds, tuple(utterances))

    def _transcribe_piece(
        self, path: Path, number: int, spans: list[Span], alternatives: int
    ) -> TranscribedUtterance:
        utterance = Utterance(
            id=f"{path.stem}#{number:03d}",
            recording=path.stem,
            audio=str(path),
            split="test",
            speaker=None,
            start_s=spans[0][0],
            end_s=spans[-1][1],
            spans=tuple(spans),
        )
        rows, times = self._hearing.hear(utterance)
        spoken = None if self._words is None else self._words.decode(rows, times, alternatives)
        if spoken is None:
            decoded = decode_utterance(self._model, rows, times, self.phones)
            return TranscribedUtterance(utterance.start_s, utterance.end_s, decoded.spans)
        return TranscribedUtterance(
            utterance.start_s,
            utterance.end_s,
            spoken.phones,
            spoken.words,
            spoken.alternatives,
        )


def _load_words(
    run_dir: Path, config: RunConfig, model: FrameReader, found: Path
) -> WordDecoder | None:
    """Load the word decoder; None where the run decodes no words."""
    graph = run_dir / "graph"
    if read_record(graph) is None or not usable(graph):
        return None
    return WordDecoder.load(graph, model, run_dir / "text", config.words, found)


def read_run_config(run_dir: Path) -> RunConfig:
    """Read the settings a run was made with from its ``run.json``.

    Raises
    ------
    UserError
        If there is no run, or its record is damaged or of another version.
    """
    path = run_dir / RUN_FILE
    try:
        return RunConfig.model_validate(json.loads(path.read_text(encoding="utf-8"))["config"])
    except OSError as error:
        raise UserError(
            f"{run_dir}: is no folder of a run (it has no {RUN_FILE}); "
            "give the folder that `wav2vec-u run --out` made"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: is damaged or of another version; give the `wav2vec-u run` command again"
        ) from error
