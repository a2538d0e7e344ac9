"""Encoders as folders: what is saved is what is loaded, and damage is told in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_pretrain import TINY, WAVES, tiny_network

from wav2vec_u.config import NetworkConfig
from wav2vec_u.encoder.checkpoint import (
    DESCRIPTION,
    WEIGHTS,
    is_encoder,
    load_description,
    load_network,
    save_encoder,
)
from wav2vec_u.encoder.encode import encode_blocks
from wav2vec_u.features.own import OwnEncoder
from wav2vec_u.runtime.errors import UserError

INFO = {"hours": 1.5, "data": ["größe"], "updates": 3}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "encoder"
    save_encoder(folder, tiny_network(), INFO)
    return folder


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def assert_refused(act: Callable[[], object], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        act()
    assert "\n" not in str(caught.value)


def edit_description(folder: Path, **changed: object) -> None:
    path = folder / DESCRIPTION
    description = {**json.loads(path.read_text(encoding="utf-8")), **changed}
    path.write_text(json.dumps(description), encoding="utf-8")


# -- what is saved is what is loaded


@pytest.mark.parametrize("config", [TINY, WAVES], ids=["log_mel", "waveform"])
def test_round_trip_in_half_precision(tmp_path: Path, config: NetworkConfig) -> None:
    network = tiny_network(config).train()
    save_encoder(tmp_path / "a" / "b", network, INFO)
    loaded = load_network(tmp_path / "a" / "b")
    assert not loaded.training
    assert loaded.config == config
    weights = network.state_dict()
    assert loaded.state_dict().keys() == weights.keys()
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[name].half().float())
    assert all(
        value.dtype == torch.float16 for value in load_file(tmp_path / "a/b" / WEIGHTS).values()
    )
    mine, other = (
        encode_blocks(net, [noise(8_000)], [1])[0][0] for net in (network.eval(), loaded)
    )
    np.testing.assert_allclose(mine, other, atol=0.02)


def test_saving_again_changes_nothing(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    save_encoder(again, load_network(saved), load_description(saved)["info"])
    for name in (WEIGHTS, DESCRIPTION):
        assert (again / name).read_bytes() == (saved / name).read_bytes()
    assert sorted(path.name for path in again.iterdir()) == sorted([WEIGHTS, DESCRIPTION])


def test_description(saved: Path) -> None:
    assert load_description(saved)["info"] == INFO
    assert load_description(saved)["network"]["dim"] == 16


def test_half_a_folder_is_no_encoder(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_encoder(saved)
    folder = saved.with_name("killed")

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wav2vec_u.encoder.checkpoint.write_text", kill)
    with pytest.raises(KeyboardInterrupt):
        save_encoder(folder, tiny_network(), {})
    assert (folder / WEIGHTS).exists() and not is_encoder(folder)
    assert not is_encoder(folder / "nowhere")


# -- damage


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"null",
        b"\xff\xfe{}",
        b'{"schema": 99, "network": {}}',
        b'{"schema": 1}',
        b'{"schema": 1, "network": null}',
        b'{"schema": 1, "network": {"dim": -3}}',
        b'{"schema": 1, "network": {"heads": 5}}',
        b'{"schema": 1, "network": {"dim": 16, "blocks": 2, "unknown": 1}}',
        b'{"schema": 1, "network": [16]}',
    ],
)
def test_a_description_that_is_none(saved: Path, written: bytes) -> None:
    (saved / DESCRIPTION).write_bytes(written)
    assert_refused(lambda: load_network(saved), str(saved))


@pytest.mark.parametrize("name", [DESCRIPTION, WEIGHTS])
def test_a_file_that_is_missing_or_a_folder(saved: Path, name: str) -> None:
    (saved / name).unlink()
    assert_refused(lambda: load_network(saved), str(saved))
    (saved / name).mkdir()
    assert_refused(lambda: load_network(saved), str(saved))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_weights_cut_short(saved: Path, share: float) -> None:
    path = saved / WEIGHTS
    os.truncate(path, int(path.stat().st_size * share))
    assert_refused(lambda: load_network(saved), str(saved))


def test_weights_that_are_none(saved: Path) -> None:
    (saved / WEIGHTS).write_bytes(b"these are no weights at all")
    assert_refused(lambda: load_network(saved), str(saved))


def test_weights_of_another_shape(saved: Path) -> None:
    edit_description(saved, network=TINY.model_copy(update={"dim": 32}).model_dump())
    assert_refused(lambda: load_network(saved), rf"{WEIGHTS}: does not fit")
    edit_description(saved, network=TINY.model_copy(update={"blocks": 3}).model_dump())
    assert_refused(lambda: load_network(saved), r"context\.layers\.2")


@pytest.mark.parametrize("change", ["missing", "surplus", "nan", "infinite"])
def test_a_tensor_that_is_wrong(saved: Path, change: str) -> None:
    weights = load_file(saved / WEIGHTS)
    said = "holds NaN or infinity"
    if change == "missing":
        del weights["mask_vector"]
        said = "mask_vector"
    elif change == "surplus":
        weights["zebra"] = torch.zeros(2)
        said = "zebra"
    else:
        weights["projection.weight"][3, 2] = float("nan" if change == "nan" else "inf")
    save_file(weights, saved / WEIGHTS)
    assert_refused(lambda: load_network(saved), said)


# -- as an encoder of features


def test_layers(saved: Path) -> None:
    waveforms = [noise(9_000, 1), noise(4_000, 2)]
    last = OwnEncoder(saved, device="cpu")
    assert (last.dim, last.frame_rate_hz, last.block_names) == (16, 50.0, ["0", "1"])
    every = last.encode_blocks(waveforms)
    for layer in (0, 1):
        encoder = OwnEncoder(saved, layer=layer, device="cpu")
        assert str(layer) in encoder.name
        for frames, blocks in zip(encoder.encode(waveforms), every, strict=True):
            assert frames.dtype == np.float32
            np.testing.assert_array_equal(frames, blocks[layer])
    for frames, blocks in zip(last.encode(waveforms), every, strict=True):
        np.testing.assert_array_equal(frames, blocks[1])
    assert not np.allclose(every[0][0], every[0][1], atol=1e-3)


@pytest.mark.parametrize("layer", [2, 14, -1])
def test_a_layer_that_does_not_exist(saved: Path, layer: int) -> None:
    assert_refused(
        lambda: OwnEncoder(saved, layer=layer, device="cpu"),
        rf"features\.layer: .*2 blocks.*{layer}",
    )


@pytest.mark.parametrize("n_samples", [0, 1, 400, 1_199])
def test_shorter_than_the_receptive_field(saved: Path, n_samples: int) -> None:
    encoder = OwnEncoder(saved, device="cpu")
    assert encoder.encode([noise(n_samples)])[0].shape == (0, 16)
    short, heard = encoder.encode([noise(n_samples), noise(1_200)])
    assert (short.shape, heard.shape) == ((0, 16), (2, 16))
    assert encoder.encode([]) == []
    assert [blocks.shape for blocks in encoder.encode_blocks([noise(n_samples)])[0]] == [
        (0, 16)
    ] * 2


def test_an_encoder_that_cannot_be_loaded(tmp_path: Path) -> None:
    assert_refused(lambda: OwnEncoder(tmp_path / "nowhere", device="cpu"), "nowhere")
