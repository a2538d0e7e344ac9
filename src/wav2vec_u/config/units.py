"""Settings of what is matched: segments of speech, and phones of text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from wav2vec_u.config.base import PositiveFloat, PositiveInt, Probability, Seed, Settings


class SegmentsConfig(Settings):
    """Segments from frames."""

    boundaries: Literal["frames", "viterbi", "clusters"] = Field(
        "frames",
        description="none: every frame is a segment (wav2vec-U 2.0); or a duration-penalised "
        "Viterbi path over k-means clusters whose penalty is found so that the rate hits "
        "`target_rate_hz`; or runs of equal cluster (paper)",
    )
    clusters: PositiveInt = Field(128, description="paper: 128")
    kmeans_iterations: PositiveInt = Field(50, description="reference: faiss niter = 50")
    kmeans_restarts: PositiveInt = Field(3, description="reference: faiss nredo = 3")
    kmeans_sample_frames: PositiveInt = Field(
        400_000, description="frames held in memory to start k-means; Lloyd streams over all frames"
    )
    pca_dim: PositiveInt = Field(512, description="paper: 512; capped at the feature dimension")
    pool_pairs: bool = Field(False, description="average adjacent pairs of segments (paper: yes)")
    target_rate_hz: PositiveFloat = Field(14.0, description="literature: 14-16 Hz converges")
    seed: Seed = 0


class TextConfig(Settings):
    """Phones from unpaired text."""

    phonemizer: Literal["espeak", "lexicon", "graphemes"] = "espeak"
    lexicon: Path | None = Field(None, description="word<TAB or space>phones, for `lexicon`")
    min_word_count: PositiveInt = Field(2, description="reference: fairseq-preprocess threshold 2")
    min_phone_share: Probability = Field(
        1e-4, description="phones rarer than this share of all phones are dropped with their words"
    )
    min_sentence_phones: PositiveInt = Field(3, description="shorter sentences teach nothing")
    silence_probability: Probability = Field(0.25, description="paper: 0.25 between words")
    surround_with_silence: bool = Field(True, description="paper: <SIL> at both ends")
    language_filter: bool = Field(
        False, description="drop lines whose letters are not those of most lines"
    )
    ngram_order: Annotated[int, Field(ge=2, le=6)] = Field(4, description="paper: phone 4-gram")
    seed: Seed = 0
