"""Encoders that show the output of every block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from wav2vec_u.encoder.shipped import find_encoder
from wav2vec_u.features.mfcc import MfccEncoder
from wav2vec_u.runtime.errors import UserError

BASELINE = "mfcc"
BASELINE_CEPSTRA = 13  # with differences the usual 39 numbers, the better ones for a linear layer


class BlockEncoder(Protocol):
    """Turns waveforms into the frames of every block.

    Attributes
    ----------
    block_names : list of str
        Names of the blocks, from the input up; for Transformers their numbers from 0, as in the
        setting `features.layer`.
    frame_rate_hz : float
        Frames a second, the same for all blocks.
    """

    @property
    def block_names(self) -> list[str]: ...

    @property
    def frame_rate_hz(self) -> float: ...

    def encode_blocks(self, waveforms: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Encode a batch.

        Parameters
        ----------
        waveforms : list of ndarray, each (samples,) float32
            Mono, 16 kHz, any lengths.

        Returns
        -------
        list over waveforms of list over blocks of (T, D) float32
            Raw outputs. T is 0 for audio shorter than the receptive field.
        """
        ...


def load_block_encoder(encoder: str, device: str = "auto") -> BlockEncoder:
    """Load a whole encoder, with no block cut away.

    Parameters
    ----------
    encoder : str
        ``base``, the folder of an encoder of our own, or a Hugging Face name or local checkpoint.
    device : str
        See `runtime.device.pick_device`.

    Raises
    ------
    UserError
        If it cannot be loaded, or is ``mfcc``.
    """
    if encoder == BASELINE:
        raise UserError(f"{BASELINE}: is measured beside every encoder; name an encoder to probe")
    # transformers takes seconds to import: only those who need it wait for it.
    own = find_encoder(encoder)
    if own is not None:
        from wav2vec_u.features.own import OwnEncoder

        return OwnEncoder(own, layer=None, device=device)
    from wav2vec_u.features.hugging_face import HuggingFaceEncoder

    return HuggingFaceEncoder(encoder, layer=None, device=device)


def load_baseline() -> BlockEncoder:
    """Return MFCC of 39 numbers, normalised over each utterance."""
    return MfccEncoder(cepstra=BASELINE_CEPSTRA, deltas=True)


def pick_blocks(
    encoder: BlockEncoder, layers: Sequence[int] | None, name: str
) -> list[tuple[int, str]]:
    """Return the positions and names of the blocks to probe, from the input up; None: all of them.

    Raises
    ------
    UserError
        If there is no such block.
    """
    names = encoder.block_names
    wanted = range(len(names)) if layers is None else sorted(set(layers))
    for layer in wanted:
        if not 0 <= layer < len(names):
            raise UserError(
                f"probe.layers: {name} has {len(names)} blocks, so the last layer is "
                f"{len(names) - 1}, not {layer}"
            )
    return [(layer, names[layer]) for layer in wanted]
