"""The segments stage: frames to segments, learned without labels from split ``train``."""

from __future__ import annotations

from pathlib import Path

from wav2vec_u.config import SegmentsConfig
from wav2vec_u.corpus.rejections import Rejection, count_by_reason, write_rejections
from wav2vec_u.features.store import FrameStore
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.progress import progress
from wav2vec_u.segments.blocks import is_usable
from wav2vec_u.segments.load import SEGMENTER_NAME, make_segmenter
from wav2vec_u.segments.store import SegmentStoreWriter

MIN_SEGMENTS = 3  # reference: utterances under 3 frames teach the generator nothing


def run(work: Work, config: SegmentsConfig, features: Path) -> None:
    """Learn a segmenter and cut every utterance of every split.

    Counts
    ------
    utterances, segments
        What is in the artefact.
    rejected
        Utterances left out, by reason: ``no_frames``, ``not_finite``.
    short_utterances
        Utterances of fewer than `MIN_SEGMENTS` segments. They are kept.
    segment_rate_hz
        Segments a second of speech.
    penalty, kmeans_inertia, pca_explained
        Cost of a boundary; mean squared distance of a training frame to its centroid; share of
        the frames' variance that the components keep. Not where frames are the segments.

    Parameters
    ----------
    work : Work
    config : SegmentsConfig
    features : Path
        Artefact of the features stage.

    Raises
    ------
    UserError
        If there is too little to learn from.
    """
    store = FrameStore(features)
    segmenter = make_segmenter(config).fit(store)
    segmenter.save(work.folder / SEGMENTER_NAME)

    rejected: list[Rejection] = []
    n_kept = n_segments = n_frames = n_short = 0
    with SegmentStoreWriter(work.folder, segmenter.dim, store.frame_rate_hz) as writer:
        for i in progress(range(len(store)), label="segments", total=len(store)):
            frames = store.frames(i)  # (T, D)
            if not is_usable(frames):
                rejected.append(_rejection(store.ids[i], len(frames)))
                continue
            segments = segmenter.transform(frames)
            writer.append(
                store.ids[i],
                segments,
                store.times(i),
                split=store.splits[i],
                speaker=store.speakers[i],
            )
            n_kept += 1
            n_segments += len(segments)
            n_frames += len(frames)
            n_short += len(segments) < MIN_SEGMENTS
    write_rejections(work.folder, rejected)

    work.counts.update(
        utterances=n_kept,
        segments=n_segments,
        rejected=count_by_reason(rejected),
        short_utterances=n_short,
        segment_rate_hz=n_segments * store.frame_rate_hz / n_frames,
        **segmenter.figures,
    )


def _rejection(utterance_id: str, n_frames: int) -> Rejection:
    if n_frames == 0:
        return Rejection(utterance_id, "no_frames", "the utterance has no frames")
    return Rejection(utterance_id, "not_finite", "a frame holds NaN or infinity")
