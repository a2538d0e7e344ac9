"""Waveforms to frames with a network of ours, at 50 frames a second whatever its step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.encoder.network import SpeechNetwork

FRAME_RATE_HZ = 50
FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE_HZ

Frames = npt.NDArray[np.float32]


def phases_of(network: SpeechNetwork) -> int:
    """Count the shifts by 20 ms at which a network must listen to give 50 frames a second."""
    return max(1, round(FRAME_RATE_HZ / network.step_rate_hz))


def n_frames(network: SpeechNetwork, n_samples: int) -> int:
    """Count the frames of a waveform.

    All phases give equally many: what is left beyond the last step of the last phase is dropped.
    """
    phases = phases_of(network)
    return phases * network.n_steps(n_samples - (phases - 1) * FRAME_SAMPLES)


@torch.inference_mode()
def encode_blocks(
    network: SpeechNetwork, waveforms: Sequence[np.ndarray], blocks: Sequence[int]
) -> list[list[Frames]]:
    """Encode a batch.

    A network of 25 steps a second listens twice, the second time 20 ms later, and the two readings
    are interleaved: boundaries between phones need frames that close, and training at half their
    rate costs half as much.

    Parameters
    ----------
    network : SpeechNetwork
        On any device, in evaluation mode.
    waveforms : sequence of (samples,) float32 arrays
        Mono, 16 kHz, any lengths; all in one batch.
    blocks : sequence of int
        0-based blocks whose raw output is wanted.

    Returns
    -------
    list over waveforms of list over `blocks` of (T, D) float32
        Frame `t` starts at ``t / 50`` seconds. T is 0 for audio shorter than the receptive field.
    """
    phases = phases_of(network)
    counts = [n_frames(network, len(waveform)) for waveform in waveforms]
    frames: list[list[Frames]] = [
        [np.zeros((count, network.dim), dtype=np.float32) for _ in blocks] for count in counts
    ]
    heard = [index for index, count in enumerate(counts) if count > 0]
    if not heard:
        return frames
    device = network.mask_vector.device
    longest = max(len(waveforms[index]) for index in heard)
    batch = np.zeros((len(heard) * phases, longest), dtype=np.float32)
    lengths = np.zeros(len(heard) * phases, dtype=np.int64)
    for row, index in enumerate(heard):
        for phase in range(phases):
            shifted = waveforms[index][phase * FRAME_SAMPLES :]
            batch[row * phases + phase, : len(shifted)] = shifted
            lengths[row * phases + phase] = len(shifted)
    output = network(
        torch.from_numpy(batch).to(device), torch.from_numpy(lengths).to(device), keep_blocks=True
    )
    for place, block in enumerate(blocks):
        hidden = output.blocks[block].float().cpu().numpy()  # (B * phases, T', D)
        for row, index in enumerate(heard):
            steps = counts[index] // phases
            for phase in range(phases):
                frames[index][place][phase::phases] = hidden[row * phases + phase, :steps]
    return frames
