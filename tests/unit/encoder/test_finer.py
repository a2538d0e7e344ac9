"""A network whose steps are halved: it says what it said in two readings, and then learns more."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_pretrain import TINY, WAVES, tiny_network

from wav2vec_u.encoder.conformer import ConformerContext
from wav2vec_u.encoder.encode import encode_blocks, phases_of
from wav2vec_u.encoder.finer import halve_step
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.runtime.errors import UserError


def waveform(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def without_attention(network: SpeechNetwork) -> SpeechNetwork:
    assert isinstance(network.context, ConformerContext)
    for block in network.context.layers:
        torch.nn.init.zeros_(block.attention.output.weight)
        torch.nn.init.zeros_(block.attention.output.bias)
    return network


def test_shape_and_rate() -> None:
    network = tiny_network()
    finer = halve_step(network)
    kernel = 2 * TINY.convolution_kernel - 1
    assert finer.config == TINY.model_copy(update={"hop": 2, "convolution_kernel": kernel})
    assert network.config == TINY
    assert not finer.training
    assert (phases_of(network), phases_of(finer)) == (2, 1)
    assert finer.step_rate_hz == 2 * network.step_rate_hz


def test_frames_stay_what_they_are_but_for_attention() -> None:
    """Both normalise over the utterance; the second reading lacks its first 20 ms, hence 0.05."""
    network = without_attention(tiny_network())
    audio = [waveform(32_000)]
    blocks = list(range(TINY.blocks))
    before = encode_blocks(network, audio, blocks)[0]
    after = encode_blocks(halve_step(network), audio, blocks)[0]
    for old, new in zip(before, after, strict=True):
        assert len(new) - len(old) in (0, 1)  # all phases of the old one give equally many
        np.testing.assert_allclose(new[: len(old)], old, atol=0.05)
        assert np.abs(old).mean() > 0.3


def test_attention_sees_both_readings_at_their_times() -> None:
    """Positions count time, not steps: that is what keeps frames close to what they were."""
    network = tiny_network()
    finer = halve_step(network)
    audio = [waveform(32_000)]
    old = encode_blocks(network, audio, [TINY.blocks - 1])[0][0]
    new = encode_blocks(finer, audio, [TINY.blocks - 1])[0][0][: len(old)]
    assert np.corrcoef(old.ravel(), new.ravel())[0, 1] > 0.98
    assert isinstance(finer.context, ConformerContext)
    finer.context.positions_per_step = 1.0
    counted = encode_blocks(finer, audio, [TINY.blocks - 1])[0][0][: len(old)]
    assert np.abs(counted - old).mean() > 1.2 * np.abs(new - old).mean()


def test_taps_between_learn() -> None:
    finer = halve_step(tiny_network()).train()
    audio = torch.from_numpy(waveform(16_000))[None]
    finer(audio, torch.tensor([16_000])).context.square().sum().backward()
    assert isinstance(finer.context, ConformerContext)
    for block in finer.context.layers:
        taps = block.convolution.depthwise.weight
        assert (taps[:, :, 1::2] == 0).all()
        assert taps.grad is not None
        assert (taps.grad[:, :, 1::2].abs().sum(dim=2) > 0).all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (WAVES, "needs an encoder with log_mel and conformer"),
        (TINY.model_copy(update={"stack": 2}), "steps of 20 ms cannot be halved"),
        (TINY.model_copy(update={"stack": 6}), "steps of 60 ms cannot be halved"),
    ],
)
def test_what_cannot_be_halved(shape: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        halve_step(tiny_network(shape))  # type: ignore[arg-type]
