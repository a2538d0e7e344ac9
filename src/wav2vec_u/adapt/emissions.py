"""What a network and its teacher say of all recordings, on disk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from wav2vec_u.adapt.labels import heard_spans
from wav2vec_u.adapt.model import listen, output_times
from wav2vec_u.adapt.teacher import Teacher
from wav2vec_u.corpus.audio import AudioError, Samples
from wav2vec_u.corpus.rejections import Rejection
from wav2vec_u.features.batching import length_batches, map_ahead
from wav2vec_u.finetune.model import FinetunedModel
from wav2vec_u.runtime.progress import progress
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStoreWriter
from wav2vec_u.silence.spans import SpanMap, speech_seconds
from wav2vec_u.silence.speech import Utterance, load_waveform


def write_emissions(
    folder: Path,
    network: FinetunedModel,
    teacher: Teacher,
    utterances: Sequence[Utterance],
    whole: bool,
    batch_seconds: float,
) -> list[Rejection]:
    """Write the rows of all utterances, one a segment; `segments.store.SegmentStore` reads them.

    Parameters
    ----------
    folder : Path
        Made if missing.
    network : FinetunedModel
    teacher : Teacher
    utterances : sequence of Utterance
    whole : bool
        Whether the network hears utterances with their pauses.
    batch_seconds : float
        Audio in one batch.

    Returns
    -------
    list of Rejection
        Utterances left out: ``too_short`` for an output, ``not_finite`` where the teacher's scores
        are not, or why they could not be decoded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rate_hz = network.output_rate_hz

    def seconds(utterance: Utterance) -> float:
        return speech_seconds(heard_spans(utterance, whole))

    batches = length_batches(utterances, seconds, batch_seconds)
    loaded = map_ahead(partial(_load, whole=whole), batches)
    rejected: list[Rejection] = []
    dim = 2 * (len(network.units) + 1)
    with SegmentStoreWriter(folder, dim, rate_hz) as writer:
        for batch, waveforms in progress(loaded, label="emissions"):
            readable: list[tuple[Utterance, Samples]] = []
            for utterance, waveform in zip(batch, waveforms, strict=True):
                if isinstance(waveform, AudioError):
                    rejected.append(Rejection(utterance.id, waveform.reason, waveform.detail))
                else:
                    readable.append((utterance, waveform))
            found = listen(network, [waveform for _, waveform in readable])
            for (utterance, waveform), heard in zip(readable, found, strict=True):
                if len(heard) == 0:
                    detail = f"{len(waveform)} samples are fewer than the encoder's receptive field"
                    rejected.append(Rejection(utterance.id, "too_short", detail))
                    continue
                starts = times_in_recording(utterance, whole, len(heard), rate_hz)
                try:
                    taught = teacher.say(utterance.id, middles_of(starts, rate_hz))
                except FloatingPointError as error:
                    rejected.append(Rejection(utterance.id, "not_finite", str(error)))
                    continue
                writer.append(
                    utterance.id,
                    _as_segments(np.concatenate([heard, taught], axis=1)),
                    starts,
                    split=utterance.split,
                    speaker=utterance.speaker,
                )
    return rejected


def times_in_recording(
    utterance: Utterance, whole: bool, n_outputs: int, rate_hz: float
) -> np.ndarray:
    """Return the beginning of every output in the original recording, seconds, (T,) float32."""
    span_map = SpanMap(heard_spans(utterance, whole))
    return span_map.to_original(output_times(n_outputs, rate_hz)).astype(np.float32)


def middles_of(starts: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return the middle of every output from its beginning, (T,) float32."""
    return (starts + 0.5 / rate_hz).astype(np.float32)


def _load(batch: list[Utterance], whole: bool) -> list[Samples | AudioError]:
    loaded: list[Samples | AudioError] = []
    for utterance in batch:
        try:
            samples, _ = load_waveform(utterance, "mask" if whole else "cut")
        except AudioError as error:
            loaded.append(error)
        else:
            loaded.append(samples)
    return loaded


def _as_segments(rows: np.ndarray) -> Segments:
    starts = np.arange(len(rows), dtype=np.int32)
    return Segments(
        rows,
        np.zeros(len(rows), dtype=np.int32),
        np.stack([starts, starts + 1], axis=1),
    )
