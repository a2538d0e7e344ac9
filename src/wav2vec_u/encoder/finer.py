"""Steps half as long for a network that has learned, whose frames at first stay what they are.

A network of 40 ms steps that listens twice, the second time 20 ms later (`encoder.encode`), gives
frames 20 ms apart, of which every second one knows nothing of those between. Here both readings
become one: the convolutions over steps get taps between their own, which begin as zeros, so that
every frame is what it was but for attention, which now sees both readings. Then training goes on.
"""

from __future__ import annotations

import torch

from wav2vec_u.encoder.conformer import ConformerContext
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.runtime.errors import UserError

_TAPS = "convolution.depthwise.weight"


def halve_step(network: SpeechNetwork) -> SpeechNetwork:
    """Return a network with twice as many steps a second, which knows what `network` knows.

    Parameters
    ----------
    network : SpeechNetwork
        With log-mel front end and Conformer; stays as it is.

    Raises
    ------
    UserError
        If it is of another kind, or its steps are 20 ms already.
    """
    config = network.config
    if config.front_end != "log_mel" or not isinstance(network.context, ConformerContext):
        raise UserError("pretrain.halve_step: needs an encoder with log_mel and conformer")
    if config.hop_frames % 4:
        raise UserError(
            f"pretrain.halve_step: steps of {10 * config.hop_frames} ms cannot be halved, as "
            "frames are 20 ms apart"
        )
    finer = SpeechNetwork(
        config.model_copy(
            update={
                "hop": config.hop_frames // 2,
                "convolution_kernel": 2 * config.convolution_kernel - 1,
            }
        )
    )
    weights = network.state_dict()
    for name in weights:
        if name.endswith(_TAPS):
            weights[name] = _spread(weights[name])
    finer.load_state_dict(weights)
    return finer.to(network.mask_vector.device).train(network.training)


def _spread(taps: torch.Tensor) -> torch.Tensor:
    """Put a 0 between neighbours, (D, 1, K) to (D, 1, 2 K - 1)."""
    spread = taps.new_zeros(*taps.shape[:2], 2 * taps.shape[2] - 1)
    spread[:, :, ::2] = taps
    return spread
