"""Frames from an encoder of our own: the one that ships, or one that was pre-trained here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from wav2vec_u.encoder.checkpoint import load_network
from wav2vec_u.encoder.encode import FRAME_RATE_HZ, encode_blocks
from wav2vec_u.runtime.device import pick_device
from wav2vec_u.runtime.errors import UserError


class OwnEncoder:
    """Output of one block of an encoder of our own, at 50 frames a second.

    Parameters
    ----------
    folder : Path
        What `encoder.checkpoint.save_encoder` wrote.
    layer : int or None
        0-based block; blocks above it are cut away. None keeps all of them, and the last is taken.
    device : str
        See `runtime.device.pick_device`.

    Attributes
    ----------
    block_names : list of str
        Blocks that `encode_blocks` shows.
    dim : int
        Numbers of a frame.

    Raises
    ------
    UserError
        If the encoder cannot be loaded, or has no such block.
    """

    frame_rate_hz = float(FRAME_RATE_HZ)

    def __init__(self, folder: Path, *, layer: int | None = None, device: str = "auto") -> None:
        self._network = load_network(folder).to(pick_device(device))
        blocks = self._network.config.blocks
        if layer is not None and not 0 <= layer < blocks:
            raise UserError(
                f"features.layer: {folder} has {blocks} blocks, so the last layer is {blocks - 1}, "
                f"not {layer}"
            )
        self._layer = blocks - 1 if layer is None else layer
        self._network.keep_blocks(self._layer + 1)
        self.block_names = [str(block) for block in range(self._layer + 1)]
        self.name = f"{folder.name} layer {self._layer}"
        self.dim = self._network.dim

    def encode(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        """Encode waveforms of (samples,) into frames of (T, D); see `Encoder.encode`."""
        return [blocks[0] for blocks in self._run(waveforms, [self._layer])]

    def encode_blocks(self, waveforms: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Encode waveforms of (samples,) into (T, D) for every block of every waveform."""
        return self._run(waveforms, list(range(len(self.block_names))))

    def _run(self, waveforms: list[np.ndarray], blocks: list[int]) -> list[list[np.ndarray]]:
        try:
            return [list(frames) for frames in encode_blocks(self._network, waveforms, blocks)]
        except torch.OutOfMemoryError as error:
            raise UserError(
                "features.batch_seconds: the audio of one batch does not fit the memory; set a "
                "smaller value"
            ) from error
