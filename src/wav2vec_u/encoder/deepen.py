"""More blocks on top of a network that has learned, which change nothing at first.

A network that cannot learn more at its size goes on from what it knows, instead of from nothing:
the outputs of a new block's residual branches begin as zeros (as Goyal et al., 2017, section 5.1,
and ReZero, Bachlechner et al., 2020, begin theirs), so that the block is the identity.
"""

from __future__ import annotations

import torch
from torch import nn

from wav2vec_u.encoder.conformer import ConformerBlock
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.runtime.seeds import torch_generator


def deepen(network: SpeechNetwork, added: int, seed: int) -> SpeechNetwork:
    """Return a network with `added` blocks above those of `network`, whose outputs are the same.

    Parameters
    ----------
    network : SpeechNetwork
        Stays as it is.
    added : int
        0 or more.
    seed : int
        Of the new blocks' inner weights.
    """
    own = network.config.blocks
    config = network.config.model_copy(update={"blocks": own + added})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "added blocks").initial_seed())
        deeper = SpeechNetwork(config)
    deeper.load_state_dict(deeper.state_dict() | network.state_dict())
    for block in list(deeper.context.layers)[own:]:
        for output in _outputs(block):
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)
    return deeper.train(network.training)


def _outputs(block: nn.Module) -> list[nn.Linear]:
    """Return the last layer of each residual branch."""
    names = (
        ("convolution.output", "attention.output", "feed_forward.4")
        if isinstance(block, ConformerBlock)
        else ("attention.out_proj", "feed_forward.output_dense")  # those of transformers
    )
    layers = [block.get_submodule(name) for name in names]
    return [layer for layer in layers if isinstance(layer, nn.Linear)]
