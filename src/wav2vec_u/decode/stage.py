"""The decode stage: every utterance through the frame model, phone by phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.corpus.rejections import Rejection, count_by_reason, write_rejections
from wav2vec_u.decode.greedy import Decoded, greedy
from wav2vec_u.decode.hypotheses import FILE_NAME, Hypothesis, recording_of
from wav2vec_u.matching.generator import Generator
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.files import write_jsonl
from wav2vec_u.runtime.progress import progress
from wav2vec_u.selftrain.frame_model import (
    FrameModel,
    FrameReader,
    checked_log_probs,
    require_phones,
)
from wav2vec_u.selftrain.inputs import open_inputs
from wav2vec_u.text.corpus import PhoneText


def run(work: Work, features: Path, segments: Path, text: Path, selftrain: Path) -> None:
    """Write ``hypotheses.jsonl`` for all utterances of all splits.

    An utterance whose scores are not finite is listed in ``rejected.jsonl`` and left out.

    Parameters
    ----------
    work : Work
        Folder to write to; gets the counts `utterances`, `phones` and `rejected`.
    features, segments, text, selftrain : Path
        Finished artefacts.

    Raises
    ------
    UserError
        If the model was made for other phones or other segments than these.
    """
    model = FrameModel.load(selftrain)
    store = open_inputs(model.reads, segments, features)
    phones = PhoneText(text).phones
    require_phones(model.generator, phones)
    rejected: list[Rejection] = []
    counts = {"utterances": 0, "phones": 0}

    def rows() -> Iterator[dict[str, object]]:
        for index in progress(range(len(store)), label="decode", total=len(store)):
            utterance = store.ids[index]
            try:
                decoded = decode_utterance(model, store.vectors(index), store.times(index), phones)
            except FloatingPointError as error:
                rejected.append(Rejection(utterance, "not_finite", str(error)))
                continue
            counts["utterances"] += 1
            counts["phones"] += len(decoded.spans)
            yield Hypothesis(
                id=utterance,
                recording=recording_of(utterance),
                split=store.splits[index],
                spans=decoded.spans,
                log_prob=decoded.log_prob,
            ).as_row()

    write_jsonl(work.folder / FILE_NAME, rows())
    write_rejections(work.folder, rejected)
    work.counts.update(counts, rejected=count_by_reason(rejected))


def decode_utterance(
    model: FrameReader,
    vectors: NDArray[np.float32],
    times: NDArray[np.float32],
    phones: list[str],
) -> Decoded:
    """Find the phones of one utterance with the phone trigram of the text.

    One utterance a call, because the generator is a single small convolution: without padding the
    result cannot depend on what else would be in a batch.

    Parameters
    ----------
    model : FrameReader
    vectors : (S, P) float32
    times : (S, 2) float32
        Seconds of the original recording.
    phones : list of str
        The V names of the model's outputs.

    Raises
    ------
    FloatingPointError
        If the scores are not finite.
    UserError
        If the model does not fit the vectors.
    """
    if len(vectors) == 0:
        return Decoded((), 0.0)
    (posteriors,) = model.read([vectors])  # (S', V)
    # The floor keeps the logarithm finite, and is far below what any phone wins with.
    scores = np.log(np.maximum(posteriors, np.finfo(np.float32).tiny))
    return greedy(scores, output_times(times, model.stride), phones)


def decode_greedily(
    generator: Generator,
    vectors: NDArray[np.float32],
    times: NDArray[np.float32],
    phones: list[str],
) -> Decoded:
    """Find the phones of one utterance segment by segment, without a language model.

    Parameters and errors are those of `decode_utterance`.
    """
    if len(vectors) == 0:
        return Decoded((), 0.0)
    scores = checked_log_probs(generator, vectors)  # (S', V)
    return greedy(scores, output_times(times, generator.stride), phones)


def output_times(times: np.ndarray, stride: int) -> np.ndarray:
    """Times of the generator's outputs: each stands for the `stride` segments from its own on."""
    last = np.minimum(np.arange(0, len(times), stride) + stride, len(times)) - 1
    return np.stack([times[::stride, 0], times[last, 1]], axis=1)
