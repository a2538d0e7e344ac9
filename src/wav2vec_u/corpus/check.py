"""The check of one recording: a single pass over its samples, at its own rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wav2vec_u.config import CorpusConfig
from wav2vec_u.corpus.audio import AudioError, iter_blocks, probe_audio
from wav2vec_u.corpus.noise import NoiseMeter


def check_recording(path: Path, config: CorpusConfig) -> float:
    """Decode a recording from end to end, holding one block of it in memory.

    Returns
    -------
    float
        Duration in seconds, as decoded.

    Raises
    ------
    AudioError
        ``missing``, ``permission``, ``empty``, ``not_audio``, ``truncated``, ``nan``,
        ``too_short``, ``silent`` or ``noise``.
    """
    rate = probe_audio(path).rate
    frames = 0
    peak = 0.0
    meter = NoiseMeter(rate)
    for block in iter_blocks(path):
        frames += len(block)
        meter.add(block)
        peak = max(peak, float(np.abs(block).max()))
    seconds = frames / rate
    if seconds < config.min_seconds:
        raise AudioError("too_short", f"{seconds:.3f} s; at least {config.min_seconds} s are asked")
    if peak < config.min_peak:
        raise AudioError("silent", f"peak {peak:.1e}; at least {config.min_peak:.0e} is asked")
    meter.check(config.max_flatness)
    return seconds
