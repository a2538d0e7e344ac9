"""The network: padding, phases, positions, and transformers' own wav2vec 2.0 as an oracle."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pretrain import TINY, WAVES, tiny_network

from wav2vec_u.config import NetworkConfig
from wav2vec_u.encoder.conformer import RotaryAttention, _rotation
from wav2vec_u.encoder.encode import encode_blocks, n_frames, phases_of
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.runtime.errors import UserError

KINDS = {
    f"{front_end}-{stack}-{context}": WAVES.model_copy(
        update={"front_end": front_end, "context": context, "stack": stack}
    )
    for (front_end, stack), context in product(
        (("log_mel", 2), ("log_mel", 4), ("waveform", 4)), ("conformer", "transformer")
    )
}
NETWORKS = {name: tiny_network(config) for name, config in KINDS.items()}


def noise(samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tone = np.sin(np.arange(samples) * rng.uniform(0.05, 1.0))
    return (0.2 * tone * rng.uniform() + 0.05 * rng.standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
@settings(deadline=None, max_examples=8)
@given(
    lengths=st.lists(st.integers(300, 12_000), min_size=1, max_size=4), seed=st.integers(0, 1_000)
)
def test_frames_do_not_depend_on_the_batch(name: str, lengths: list[int], seed: int) -> None:
    network = NETWORKS[name]
    waveforms = [noise(length, seed + place) for place, length in enumerate(lengths)]
    together = encode_blocks(network, waveforms, [0, 1])
    for waveform, blocks in zip(waveforms, together, strict=True):
        alone = encode_blocks(network, [waveform], [0, 1])[0]
        for mine, other in zip(blocks, alone, strict=True):
            assert mine.shape == (n_frames(network, len(waveform)), 16)
            np.testing.assert_allclose(mine, other, atol=2e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_frames_depend_on_the_waveform(name: str) -> None:
    """So that the test above cannot pass by frames that are all the same."""
    one, other = encode_blocks(NETWORKS[name], [noise(9_000, 1), noise(9_000, 2)], [1])
    assert np.abs(one[0] - other[0]).mean() > 0.05
    assert np.abs(one[0][0] - one[0][-1]).mean() > 0.05


@pytest.mark.parametrize("name", NETWORKS)
def test_frames_are_steps_of_waveforms_shifted_by_20_ms(name: str) -> None:
    """Frame t is step t // phases of the network on the waveform from (t % phases) · 20 ms on."""
    network = NETWORKS[name]
    waveform = noise(10_123)
    frames = encode_blocks(network, [waveform], [1])[0][0]
    phases = phases_of(network)
    assert phases == round(50 / network.step_rate_hz)
    assert len(frames) == n_frames(network, len(waveform)) > 20
    for phase in range(phases):
        shifted = torch.from_numpy(waveform[320 * phase :])[None]
        with torch.inference_mode():
            output = network(shifted, torch.tensor([shifted.shape[1]]), keep_blocks=True)
        steps = output.blocks[1][0].numpy()
        for t in range(phase, len(frames), phases):
            np.testing.assert_allclose(frames[t], steps[t // phases], atol=2e-4)


@settings(deadline=None, max_examples=100)
@given(n_samples=st.integers(0, 40_000), name=st.sampled_from(sorted(NETWORKS)))
def test_frames_lie_inside_the_waveform(n_samples: int, name: str) -> None:
    network = NETWORKS[name]
    frames, phases = n_frames(network, n_samples), phases_of(network)
    steps = network.n_steps(n_samples)
    assert frames % phases == 0
    assert max(0, steps - 1) * phases <= frames <= steps * phases
    field = 400 + (160 * 3 if phases == 2 else 0)
    if name.startswith("log_mel") and phases == 1:
        field += 160
    if frames:
        assert 320 * (frames - 1) + field <= n_samples
    assert (frames == 0) == (n_samples < field + 320 * (phases - 1))


def test_too_short_is_no_frame() -> None:
    for network in NETWORKS.values():
        for blocks in encode_blocks(network, [np.zeros(0, np.float32), noise(399)], [0, 1]):
            assert [frames.shape for frames in blocks] == [(0, 16), (0, 16)]
        heard, unheard = encode_blocks(network, [noise(4_000), noise(200)], [0])
        assert len(heard[0]) > 0 and len(unheard[0]) == 0


def test_valid_steps() -> None:
    network = NETWORKS["log_mel-4-conformer"]
    lengths = torch.tensor([880, 879 + 640, 880 + 640])
    expected = torch.tensor([[True, False], [True, False], [True, True]])
    assert torch.equal(network.valid_steps(lengths), expected)


# -- masking


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_masked_is_not_seen(name: str) -> None:
    """Two waveforms that differ only where both are masked have one context, but two targets."""
    network = NETWORKS[name]
    steps = network.n_steps(8_000)
    hidden = torch.randn(1, steps, network.front_end.dim, generator=torch.manual_seed(1))
    changed = hidden.clone()
    mask = torch.zeros(1, steps, dtype=torch.bool)
    mask[0, 3:6] = True
    changed[mask] += 1.0
    outputs = []
    for given_hidden in (hidden, changed):
        handle = network.front_end.register_forward_hook(lambda *_, out=given_hidden: out)
        with torch.inference_mode():
            outputs.append(network(torch.zeros(1, 8_000), torch.tensor([8_000]), mask))
        handle.remove()
    torch.testing.assert_close(outputs[0].context, outputs[1].context)
    unmasked = [o.features[~mask] for o in outputs]
    torch.testing.assert_close(*unmasked)
    with torch.inference_mode():
        seen = network(torch.from_numpy(noise(8_000))[None], torch.tensor([8_000]))
        unseen = network(torch.from_numpy(noise(8_000))[None], torch.tensor([8_000]), mask)
    assert not torch.allclose(seen.context, unseen.context, atol=1e-3)
    torch.testing.assert_close(seen.features, unseen.features)
    assert (seen.front is None) == (KINDS[name].front_end == "log_mel")


def test_hooks_are_taken_off() -> None:
    network = NETWORKS["log_mel-4-conformer"]
    encode_blocks(network, [noise(4_000)], [0])
    assert not any(layer._forward_hooks for layer in network.context.layers)
    with torch.inference_mode():
        output = network(torch.from_numpy(noise(4_000))[None], torch.tensor([4_000]))
    assert output.blocks == []


@pytest.mark.parametrize("context", ["conformer", "transformer"])
def test_dropped_layers_are_dropped_in_training_alone(context: str) -> None:
    network = tiny_network(WAVES.model_copy(update={"context": context, "front_end": "log_mel"}))
    waveform, length = torch.from_numpy(noise(8_000))[None], torch.tensor([8_000])
    with torch.no_grad():
        kept = network(waveform, length).context
        network.set_layer_drop(1.0)
        torch.testing.assert_close(network(waveform, length).context, kept)
        dropped = network.train()(waveform, length).context
        network.set_layer_drop(0.0)
        torch.testing.assert_close(network(waveform, length).context, kept)
    assert not torch.allclose(dropped, kept, atol=1e-3)


# -- positions


def test_attention_depends_on_relative_positions_alone() -> None:
    torch.manual_seed(0)
    attention = RotaryAttention(16, 2, 0.0)
    torch.nn.init.normal_(attention.queries_keys_values.weight, std=0.5)
    hidden = torch.randn(2, 20, 16)
    cosine, sine = _rotation(60, 8, hidden.device)

    def attend(*positions: int) -> torch.Tensor:
        chosen = torch.tensor(positions)
        found: torch.Tensor = attention(hidden, (cosine[chosen], sine[chosen]), None)
        return found.detach()

    here = attend(*range(20))
    torch.testing.assert_close(attend(*range(37, 57)), here, atol=1e-5, rtol=1e-4)
    # Positions do matter: stretched, or turned round, they give something else.
    assert not torch.allclose(attend(*range(0, 40, 2)), here, atol=1e-2)
    assert not torch.allclose(attend(*range(19, -1, -1)), here, atol=1e-2)


# -- oracle


@pytest.mark.parametrize("lengths", [[5_000], [5_000, 3_333, 401]])
def test_equals_the_wav2vec2_of_transformers(lengths: list[int]) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    network = NETWORKS["waveform-4-transformer"]
    config = network.config
    theirs = Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=config.dim,
            num_hidden_layers=config.blocks,
            num_attention_heads=config.heads,
            intermediate_size=config.feed_forward_dim,
            conv_dim=[config.conv_channels] * 7,
            conv_bias=True,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            num_conv_pos_embeddings=config.position_kernel,
            num_conv_pos_embedding_groups=config.position_groups,
        )
    ).eval()
    renamed = {
        "feature_extractor": "front_end.feature_encoder",
        "feature_projection.layer_norm": "feature_norm",
        "feature_projection.projection": "projection",
        "encoder": "context.transformer",
        "masked_spec_embed": "mask_vector",
    }
    ours = network.state_dict()
    copied = {}
    for name in theirs.state_dict():
        start = next(prefix for prefix in renamed if name.startswith(prefix))
        copied[name] = ours.pop(renamed[start] + name.removeprefix(start))
    assert not ours, "every weight of ours is one of theirs"
    theirs.load_state_dict(copied)

    waveforms = [noise(length, seed) for seed, length in enumerate(lengths)]
    normalised = [(wave - wave.mean()) / np.sqrt(wave.var() + 1e-7) for wave in waveforms]
    longest = max(lengths)
    given_ours, given_theirs = (
        torch.from_numpy(np.stack([np.pad(wave, (0, longest - len(wave))) for wave in waves]))
        for waves in (waveforms, normalised)
    )
    inside = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    mask = torch.zeros_like(network.valid_steps(torch.tensor(lengths)))
    mask[0, 2:7] = True
    with torch.inference_mode():
        for masked in (None, mask):
            expected = theirs(
                given_theirs, attention_mask=inside.long(), mask_time_indices=masked
            ).last_hidden_state
            found = network(given_ours, torch.tensor(lengths), masked)
            torch.testing.assert_close(
                found.context[found.valid], expected[found.valid], atol=1e-4, rtol=1e-4
            )


# -- shapes that cannot be


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"heads": 3}, "heads"),
        ({"heads": 3, "context": "transformer"}, "heads"),
        ({"dim": 6, "heads": 2}, "heads"),
        ({"convolution_kernel": 4}, "convolution_kernel"),
        ({"stack": 3}, "stack"),
        ({"stack": 1}, "stack"),
        ({"context": "transformer", "position_groups": 3}, "position_groups"),
    ],
)
def test_shapes_that_cannot_be(changed: dict[str, Any], said: str) -> None:
    config = NetworkConfig(**{**TINY.model_dump(), **changed})
    with pytest.raises(UserError, match=rf"pretrain\.network\.{said}") as caught:
        SpeechNetwork(config)
    assert "\n" not in str(caught.value)


def test_other_rates_than_25_and_50_hz_are_possible() -> None:
    """120 ms a step: the network listens six times."""
    network = tiny_network(TINY.model_copy(update={"stack": 12}))
    assert phases_of(network) == 6
    assert len(encode_blocks(network, [noise(16_000)], [0])[0][0]) == n_frames(network, 16_000) > 20
