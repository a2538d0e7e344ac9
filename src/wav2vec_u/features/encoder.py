"""What an encoder is, and the choice of one by the settings."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from wav2vec_u.config import FeaturesConfig
from wav2vec_u.encoder.checkpoint import recommended_layer
from wav2vec_u.encoder.shipped import find_encoder

PAPER_LAYER = 14  # 0-based: block 15 of 24 (wav2vec-U, section 3.1)


class Encoder(Protocol):
    """Turns waveforms into frames.

    Attributes
    ----------
    name : str
        What ``meta.json`` records.
    dim : int
        Numbers in a frame, D.
    frame_rate_hz : float
        Frames a second; frame `i` starts at sample time ``i / frame_rate_hz``.
    """

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def frame_rate_hz(self) -> float: ...

    def encode(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        """Encode a batch.

        Parameters
        ----------
        waveforms : list of ndarray, each (samples,) float32
            Mono, 16 kHz, any lengths. All are encoded at once, so the caller bounds the batch.

        Returns
        -------
        list of ndarray, each (T, D) float32
            T is 0 for audio shorter than the encoder's receptive field. The frames of a waveform do
            not depend on what else is in the batch.
        """
        ...


def load_encoder(config: FeaturesConfig) -> Encoder:
    """Return the encoder that the settings name.

    Raises
    ------
    UserError
        If the checkpoint cannot be loaded, is of no supported kind, or has no such layer.
    """
    if config.encoder == "mfcc":
        from wav2vec_u.features.mfcc import MfccEncoder

        return MfccEncoder(
            cepstra=config.mfcc_cepstra,
            deltas=config.mfcc_deltas,
            normalize=config.mfcc_normalize == "utterance",
        )
    own = find_encoder(config.encoder)
    if own is not None:
        from wav2vec_u.features.own import OwnEncoder

        layer = recommended_layer(own) if config.layer is None else config.layer
        return OwnEncoder(own, layer=layer, device=config.device)
    # transformers takes seconds to import: only those who need it wait for it.
    from wav2vec_u.features.hugging_face import HuggingFaceEncoder

    layer = PAPER_LAYER if config.layer is None else config.layer
    return HuggingFaceEncoder(config.encoder, layer=layer, device=config.device)
