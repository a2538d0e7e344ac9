"""The artefacts that the matching reads, holding a made-up language whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wav2vec_u.config import SegmentsConfig, TextConfig
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.segments.frame_segmenter import FrameSegmenter
from wav2vec_u.segments.load import SEGMENTER_NAME
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStoreWriter
from wav2vec_u.testing.language import Language
from wav2vec_u.testing.planted import PlantedSegments
from wav2vec_u.text import stage as text_stage

FRAMES_A_SEGMENT = 7


def without_silence(segments: PlantedSegments) -> PlantedSegments:
    """Take out the segments of silence, as the silence stage would have done."""
    spoken = [segments.labels(i) != 0 for i in range(len(segments))]
    return PlantedSegments(
        [segments.vectors(i)[kept] for i, kept in enumerate(spoken)],
        [segments.labels(i)[kept] for i, kept in enumerate(spoken)],
        segments.splits,
    )


def write_segments(folder: Path, segments: PlantedSegments) -> Path:
    """Write frames as segments, as the segments stage does; the codes are left at zero."""
    folder.mkdir(parents=True)
    segmenter = FrameSegmenter(SegmentsConfig())
    segmenter.frame_dim_ = segments.dim
    segmenter.save(folder / SEGMENTER_NAME)
    with SegmentStoreWriter(folder, segments.dim, 100.0) as writer:
        for i, name in enumerate(segments.ids):
            vectors = segments.vectors(i)
            ends = FRAMES_A_SEGMENT * np.arange(1, len(vectors) + 1, dtype=np.int32)
            bounds = np.stack([ends - FRAMES_A_SEGMENT, ends], axis=1)
            times = np.arange(FRAMES_A_SEGMENT * len(vectors), dtype=np.float32) / 100
            codes = np.zeros(len(vectors), dtype=np.int32)
            writer.append(
                name,
                Segments(vectors, codes, bounds),
                times,
                split=segments.splits[i],
                speaker=segments.speakers[i],
            )
    return folder


def write_text_artifact(folder: Path, language: Language, sentences: int) -> Path:
    """Let the text stage read sentences of a language; every phone is one letter of its spelling.

    The ids of phones are those of the artefact, not those of `language`.
    """
    folder.mkdir(parents=True)
    text = folder.with_name(f"{folder.name}.txt")
    lines = (" ".join(sentence) for sentence in language.sentences(sentences, "text"))
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = TextConfig(phonemizer="graphemes", min_word_count=1, min_phone_share=0.0)
    text_stage.run(Work(folder), config, text, "en")
    return folder
