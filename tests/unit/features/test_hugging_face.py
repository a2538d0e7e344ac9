"""Every supported family, as tiny untrained checkpoints, against transformers' own outputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCTC

from wav2vec_u.config import FeaturesConfig
from wav2vec_u.features.encoder import load_encoder
from wav2vec_u.features.hugging_face import HuggingFaceEncoder
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.encoders import ENCODER_KINDS, save_tiny_encoder

BLOCKS = 3
DIM = 16
RECEPTIVE_FIELD = 400  # samples
LARGE = ("wav2vec2-layer", "wavlm-layer")  # the kinds that may share a padded batch


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    return {
        kind: save_tiny_encoder(folder / kind, kind, blocks=BLOCKS, dim=DIM)
        for kind in ENCODER_KINDS
    }


@pytest.fixture(scope="module")
def waveforms() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    # An offset and a low level, so that forgotten normalisation shows.
    return [
        (0.01 * rng.standard_normal(n) + 0.02).astype(np.float32)
        for n in (16_000, 9_000, 12_345, 9_000)
    ]


def full_hidden_states(checkpoint: Path, waveform: np.ndarray, normalize: bool) -> Any:
    model = AutoModel.from_pretrained(checkpoint).eval()
    if normalize:
        waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    with torch.no_grad():
        output = model(torch.from_numpy(waveform)[None], output_hidden_states=True)
    return [state[0].numpy() for state in output.hidden_states]


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("kind", ENCODER_KINDS)
def test_a_layer_is_the_next_hidden_state_of_the_whole_model(
    checkpoints: dict[str, Path], waveforms: list[np.ndarray], kind: str, layer: int
) -> None:
    encoder = HuggingFaceEncoder(str(checkpoints[kind]), layer=layer, device="cpu")
    normalized = kind in (*LARGE, "data2vec-audio")
    assert encoder.normalizes == normalized
    states = full_hidden_states(checkpoints[kind], waveforms[0], normalized)
    (frames,) = encoder.encode(waveforms[:1])
    assert frames.shape == (49, DIM)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames, states[layer + 1], atol=1e-5)
    # The test can tell layers, and normalised from raw waveforms, apart.
    assert np.abs(states[layer] - states[layer + 1]).max() > 0.1
    other = full_hidden_states(checkpoints[kind], waveforms[0], not normalized)[layer + 1]
    assert kind not in LARGE or np.abs(frames - other).max() > 0.1


@pytest.mark.parametrize("kind", ENCODER_KINDS)
def test_the_top_block_is_raw_and_the_final_norm_not_applied(
    checkpoints: dict[str, Path], waveforms: list[np.ndarray], kind: str
) -> None:
    encoder = HuggingFaceEncoder(str(checkpoints[kind]), layer=BLOCKS - 1, device="cpu")
    (frames,) = encoder.encode(waveforms[:1])
    model = AutoModel.from_pretrained(checkpoints[kind]).eval()
    seen: list[torch.Tensor] = []
    model.encoder.layers[-1].register_forward_hook(
        lambda block, inputs, output: seen.append(
            output[0] if isinstance(output, tuple) else output
        )
    )
    waveform = encoder._prepare(waveforms[0])
    with torch.no_grad():
        last = model(torch.from_numpy(waveform)[None]).last_hidden_state[0].numpy()
    np.testing.assert_allclose(frames, seen[0][0].numpy(), atol=1e-5)
    # Large models normalise after the last block, base models do not.
    assert (np.abs(frames - last).max() > 0.01) == (kind in LARGE)


@pytest.mark.parametrize("kind", ENCODER_KINDS)
def test_blocks_above_are_cut_away_and_change_nothing(
    checkpoints: dict[str, Path], waveforms: list[np.ndarray], kind: str
) -> None:
    cut = HuggingFaceEncoder(str(checkpoints[kind]), layer=1, device="cpu")
    assert len(cut._model.encoder.layers) == 2
    whole = HuggingFaceEncoder(str(checkpoints[kind]), layer=BLOCKS - 1, device="cpu")
    seen: list[np.ndarray] = []
    whole._model.encoder.layers[1].register_forward_hook(
        lambda block, inputs, output: seen.append(
            (output[0] if isinstance(output, tuple) else output)[0].numpy()
        )
    )
    whole.encode(waveforms[:1])
    np.testing.assert_array_equal(cut.encode(waveforms[:1])[0], seen[0])


@pytest.mark.parametrize("kind", ENCODER_KINDS)
def test_frames_do_not_depend_on_the_batch(
    checkpoints: dict[str, Path], waveforms: list[np.ndarray], kind: str
) -> None:
    encoder = HuggingFaceEncoder(str(checkpoints[kind]), layer=1, device="cpu")
    together = encoder.encode(waveforms)
    for waveform, frames in zip(waveforms, together, strict=True):
        (alone,) = encoder.encode([waveform])
        np.testing.assert_allclose(frames, alone, atol=1e-4)


@pytest.mark.parametrize("kind", ENCODER_KINDS)
def test_the_padding_trap_is_real_where_padding_is_avoided(
    checkpoints: dict[str, Path], waveforms: list[np.ndarray], kind: str
) -> None:
    encoder = HuggingFaceEncoder(str(checkpoints[kind]), layer=1, device="cpu")
    assert encoder.pads == (kind in LARGE)
    (alone,) = encoder.encode([waveforms[1]])
    encoder.pads = True
    padded = encoder.encode(waveforms)[1]
    assert (np.abs(padded - alone).max() > 0.01) == (kind not in LARGE)


def test_batch_norm_before_the_positional_convolution_forbids_padding(tmp_path: Path) -> None:
    checkpoint = save_tiny_encoder(tmp_path / "hubert", "hubert")
    config = AutoConfig.from_pretrained(checkpoint)
    config.feat_extract_norm = "layer"
    config.conv_pos_batch_norm = True
    AutoModel.from_config(config).save_pretrained(checkpoint)
    assert not HuggingFaceEncoder(str(checkpoint), layer=0, device="cpu").pads


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2-layer"])
def test_audio_below_the_receptive_field_gives_no_frame(
    checkpoints: dict[str, Path], waveforms: list[np.ndarray], kind: str
) -> None:
    encoder = HuggingFaceEncoder(str(checkpoints[kind]), layer=0, device="cpu")
    silence = np.zeros(0, dtype=np.float32)
    short = waveforms[0][: RECEPTIVE_FIELD - 1]
    enough = waveforms[0][:RECEPTIVE_FIELD]
    frames = encoder.encode([silence, waveforms[0], short, enough])
    assert [item.shape for item in frames] == [(0, DIM), (49, DIM), (0, DIM), (1, DIM)]
    assert encoder.encode([short])[0].shape == (0, DIM)
    assert encoder.encode([]) == []


def test_the_frame_rate_follows_from_the_strides(checkpoints: dict[str, Path]) -> None:
    config = FeaturesConfig(encoder=str(checkpoints["wavlm"]), layer=2, device="cpu")
    encoder = load_encoder(config)
    assert (encoder.frame_rate_hz, encoder.dim) == (50.0, DIM)
    assert encoder.name.endswith("wavlm layer 2")


@pytest.mark.parametrize(("kind", "normalizes"), [("hubert", False), ("wavlm-layer", True)])
def test_without_a_preprocessor_large_models_normalise_and_base_models_do_not(
    checkpoints: dict[str, Path], tmp_path: Path, kind: str, normalizes: bool
) -> None:
    checkpoint = tmp_path / kind
    shutil.copytree(checkpoints[kind], checkpoint)
    (checkpoint / "preprocessor_config.json").unlink()
    assert HuggingFaceEncoder(str(checkpoint), layer=0, device="cpu").normalizes == normalizes


@pytest.mark.parametrize("do_normalize", [True, False])
def test_the_preprocessor_decides_on_normalisation(
    checkpoints: dict[str, Path], tmp_path: Path, do_normalize: bool
) -> None:
    checkpoint = tmp_path / "copy"
    shutil.copytree(checkpoints["hubert"], checkpoint)
    edit(checkpoint / "preprocessor_config.json", do_normalize=do_normalize)
    assert HuggingFaceEncoder(str(checkpoint), layer=0, device="cpu").normalizes == do_normalize


def test_a_fine_tuned_checkpoint_gives_the_frames_of_its_encoder(
    waveforms: list[np.ndarray], tmp_path: Path
) -> None:
    base = save_tiny_encoder(tmp_path / "base", "wav2vec2-layer")
    model = AutoModelForCTC.from_pretrained(base, vocab_size=5)
    model.half().save_pretrained(tmp_path / "ctc")
    shutil.copy(base / "preprocessor_config.json", tmp_path / "ctc")
    (expected,) = HuggingFaceEncoder(str(base), layer=1, device="cpu").encode(waveforms[:1])
    (found,) = HuggingFaceEncoder(str(tmp_path / "ctc"), layer=1, device="cpu").encode(
        waveforms[:1]
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.05)  # stored in half precision


def test_a_layer_that_does_not_exist_names_the_blocks(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="has 3 blocks, so the last layer is 2, not 3"):
        HuggingFaceEncoder(str(checkpoints["hubert"]), layer=3, device="cpu")


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    AutoConfig.for_model("bert").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a bert model; choose one of"):
        HuggingFaceEncoder(str(tmp_path), layer=0)


def test_another_sample_rate_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoints["hubert"], tmp_path / "copy")
    edit(tmp_path / "copy" / "preprocessor_config.json", sampling_rate=8_000)
    with pytest.raises(UserError, match="wants audio at 8000 Hz"):
        HuggingFaceEncoder(str(tmp_path / "copy"), layer=0)


def test_missing_weights_are_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoints["hubert"], tmp_path / "copy")
    path = tmp_path / "copy" / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.layers.0.attention.k_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights, encoder\.layers\.0\.attention"):
        HuggingFaceEncoder(str(tmp_path / "copy"), layer=0)


@pytest.mark.parametrize("fault", ["name", "folder", "empty", "garbled", "no_weights", "torn"])
def test_a_checkpoint_that_cannot_be_loaded_is_one_line(
    checkpoints: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    checkpoint = tmp_path / "copy"
    if fault in ("name", "folder"):
        name = "nobody/no-such-encoder" if fault == "name" else str(tmp_path / "absent")
    else:
        shutil.copytree(checkpoints["hubert"], checkpoint)
        name = str(checkpoint)
        if fault == "empty":
            (checkpoint / "config.json").unlink()
        elif fault == "garbled":
            (checkpoint / "config.json").write_text("{")
        elif fault == "no_weights":
            (checkpoint / "model.safetensors").unlink()
        else:
            path = checkpoint / "model.safetensors"
            path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"features\.encoder: cannot load") as caught:
        HuggingFaceEncoder(name, layer=0, device="cpu")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
