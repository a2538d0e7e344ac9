"""Outputs of all blocks at once are those of the blocks one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModel

from wav2vec_u.encoder.checkpoint import load_network
from wav2vec_u.features.hugging_face import HuggingFaceEncoder
from wav2vec_u.probe.blocks import load_baseline, load_block_encoder, pick_blocks
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.encoders import ENCODER_KINDS, EncoderKind, save_tiny_encoder


@pytest.fixture(scope="module")
def waveforms() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [0.1 * rng.standard_normal(n).astype(np.float32) for n in (8_000, 12_345, 100)]


@pytest.mark.parametrize("kind", ENCODER_KINDS)
def test_all_blocks_at_once(kind: EncoderKind, tmp_path: Path, waveforms: list[np.ndarray]) -> None:
    checkpoint = str(save_tiny_encoder(tmp_path, kind))
    encoder = load_block_encoder(checkpoint, "cpu")
    assert encoder.block_names == ["0", "1", "2"]
    found = encoder.encode_blocks(waveforms)
    for layer in range(3):
        alone = HuggingFaceEncoder(checkpoint, layer=layer, device="cpu").encode(waveforms)
        for blocks, expected in zip(found, alone, strict=True):
            assert len(blocks) == 3
            np.testing.assert_allclose(blocks[layer], expected, atol=1e-5)
    assert [len(item[0]) for item in found] == [24, 38, 0]
    assert not np.allclose(found[0][0], found[0][1], atol=0.01)


def test_blocks_are_the_hidden_states_of_transformers(
    tmp_path: Path, waveforms: list[np.ndarray]
) -> None:
    import torch

    checkpoint = str(save_tiny_encoder(tmp_path, "wav2vec2-layer"))
    samples = waveforms[0]
    normalised = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    with torch.inference_mode():
        states = AutoModel.from_pretrained(checkpoint)(
            torch.from_numpy(normalised)[None], output_hidden_states=True
        ).hidden_states
    found = load_block_encoder(checkpoint, "cpu").encode_blocks([samples])[0]
    for layer in range(2):  # the last state is normalised
        np.testing.assert_allclose(found[layer], states[layer + 1][0].numpy(), atol=1e-4)


def test_encoding_one_layer_after_all_of_them_is_as_before(
    tmp_path: Path, waveforms: list[np.ndarray]
) -> None:
    encoder = HuggingFaceEncoder(str(save_tiny_encoder(tmp_path, "hubert")), layer=1, device="cpu")
    before = encoder.encode(waveforms)
    blocks = encoder.encode_blocks(waveforms)
    for first, second, third in zip(before, blocks, encoder.encode(waveforms), strict=True):
        assert len(second) == 2
        np.testing.assert_array_equal(first, second[1])
        np.testing.assert_array_equal(first, third)


def test_an_encoder_of_our_own_shows_its_blocks(
    tmp_path: Path, waveforms: list[np.ndarray]
) -> None:
    import torch
    from songs import write_encoder

    write_encoder(tmp_path)
    encoder = load_block_encoder(str(tmp_path), "cpu")
    network = load_network(tmp_path)
    found = encoder.encode_blocks(waveforms)
    assert encoder.block_names == ["0", "1"]
    for blocks, samples in zip(found[:2], waveforms[:2], strict=True):
        with torch.inference_mode():
            output = network(
                torch.from_numpy(samples)[None], torch.tensor([len(samples)]), keep_blocks=True
            )
        for block, expected in zip(blocks, output.blocks, strict=True):
            # Every other frame is of the second reading, 20 ms later.
            first = block[::2]
            assert 0 <= len(expected[0]) - len(first) <= 1
            np.testing.assert_allclose(first, expected[0, : len(first)].numpy(), atol=1e-4)
    assert [len(block) for block in found[2]] == [0, 0]


def test_mfcc_is_one_block(waveforms: list[np.ndarray]) -> None:
    baseline = load_baseline()
    assert (baseline.block_names, baseline.frame_rate_hz) == (["mfcc"], 100)
    assert [item[0].shape for item in baseline.encode_blocks(waveforms)] == [
        (48, 39),
        (75, 39),
        (0, 39),
    ]


def test_blocks_are_picked_by_number() -> None:
    class Encoder:
        block_names = ("0", "1", "2")
        frame_rate_hz = 50.0

    encoder: object = Encoder()
    assert pick_blocks(encoder, None, "x") == [(0, "0"), (1, "1"), (2, "2")]  # type: ignore[arg-type]
    assert pick_blocks(encoder, (2, 0, 2), "x") == [(0, "0"), (2, "2")]  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"probe\.layers: x has 3 blocks, so the last .* 2, not 3"):
        pick_blocks(encoder, (1, 3), "x")  # type: ignore[arg-type]


def test_mfcc_is_no_encoder_to_probe() -> None:
    with pytest.raises(UserError, match="mfcc: is measured beside every encoder"):
        load_block_encoder("mfcc")


def test_a_folder_that_is_no_encoder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load") as caught:
        load_block_encoder(str(tmp_path / "absent"))
    assert "\n" not in str(caught.value)
