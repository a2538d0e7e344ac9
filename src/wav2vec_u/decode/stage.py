"""The decode stage: every utterance through the learned generator, and its model of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from wav2vec_u.corpus.rejections import Rejection, count_by_reason, write_rejections
from wav2vec_u.decode.greedy import Decoded, greedy
from wav2vec_u.decode.hypotheses import FILE_NAME, Hypothesis, recording_of
from wav2vec_u.matching.frame_hmm import FrameHmm
from wav2vec_u.matching.generator import GENERATOR_NAME, Generator, load_generator
from wav2vec_u.matching.rounds import HMM_NAME
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_jsonl
from wav2vec_u.runtime.progress import progress
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.text.corpus import PhoneText


def run(work: Work, segments: Path, text: Path, matching: Path) -> None:
    """Write ``hypotheses.jsonl`` for all utterances of all splits.

    An utterance whose scores are not finite is listed in ``rejected.jsonl`` and left out.

    Parameters
    ----------
    work : Work
        Folder to write to; gets the counts `utterances`, `phones` and `rejected`.
    segments, text, matching : Path
        Finished artefacts.

    Raises
    ------
    UserError
        If the generator was made for other phones or other segments than these.
    """
    generator = load_generator(matching / GENERATOR_NAME)
    hmm = load_hmm(matching)
    store = SegmentStore(segments)
    phones = PhoneText(text).phones
    rejected: list[Rejection] = []
    counts = {"utterances": 0, "phones": 0}

    def rows() -> Iterator[dict[str, object]]:
        for index in progress(range(len(store)), label="decode", total=len(store)):
            utterance = store.ids[index]
            try:
                decoded = decode_utterance(
                    generator, store.vectors(index), store.times(index), phones, hmm
                )
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


def load_hmm(matching: Path) -> FrameHmm | None:
    """Read the model of frames, where the matching has learned one."""
    path = matching / HMM_NAME
    return FrameHmm.load(path) if path.exists() else None


def decode_utterance(
    generator: Generator,
    vectors: np.ndarray,
    times: np.ndarray,
    phones: list[str],
    hmm: FrameHmm | None = None,
) -> Decoded:
    """Decode one utterance.

    One utterance a call, because the generator is a single small convolution: without padding the
    result cannot depend on what else would be in a batch.

    Parameters
    ----------
    generator : Generator
        In evaluation mode.
    vectors : (S, P) float32
    times : (S, 2) float32
        Seconds of the original recording.
    phones : list of str
        The V names of the generator's outputs.
    hmm : FrameHmm or None
        Reads the outputs with the phone trigram of the text; None: every segment by itself.

    Raises
    ------
    FloatingPointError
        If the scores are not finite.
    UserError
        If the generator does not fit the vectors or the phones.
    """
    if len(vectors) == 0:
        return Decoded((), 0.0)
    batch = torch.from_numpy(np.array(vectors, dtype=np.float32))[None]  # (1, S, P)
    mask = torch.ones(batch.shape[:2], dtype=torch.bool)  # (1, S)
    with torch.inference_mode():
        try:
            logits, logit_mask = generator(batch, mask)  # (1, S', V), (1, S')
        except RuntimeError as error:
            raise UserError(
                f"matching: its generator does not fit segments of {batch.shape[2]} dimensions; "
                "run the matching stage again"
            ) from error
    if logits.shape[2] != len(phones):
        raise UserError(
            f"matching: its generator knows {logits.shape[2]} phones and phones.txt has "
            f"{len(phones)}; run the matching stage again"
        )
    scores = logits[0].numpy()
    if not np.isfinite(scores).all():
        raise FloatingPointError("the generator's scores are not finite")
    if hmm is not None:
        scores = _read(hmm, scores)
    return greedy(scores, output_times(times, generator.stride), phones, logit_mask[0].numpy())


def _read(hmm: FrameHmm, scores: np.ndarray) -> np.ndarray:
    """Return the logarithms of the posteriors under the model, (S', V)."""
    log_probs = torch.from_numpy(scores).log_softmax(-1).numpy()
    (posteriors,) = hmm.read([log_probs], threads=1).posteriors
    # The floor keeps the logarithm finite, and is far below what any phone wins with.
    floored: np.ndarray = np.log(np.maximum(posteriors, np.finfo(np.float32).tiny))
    return floored


def output_times(times: np.ndarray, stride: int) -> np.ndarray:
    """Times of the generator's outputs: each stands for the `stride` segments from its own on."""
    last = np.minimum(np.arange(0, len(times), stride) + stride, len(times)) - 1
    return np.stack([times[::stride, 0], times[last, 1]], axis=1)
