"""Frames from a middle layer of a published self-supervised encoder.

The paper (section 3.1) takes the raw output of block 15 of 24 of wav2vec 2.0; the code published
with it calls that layer 14, counting from 0, and stops before the final LayerNorm. A forward hook
on that block reads the same numbers from every version of transformers, which `hidden_states`
does not: its last entry is normalised in some versions and raw in others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.runtime.device import pick_device
from wav2vec_u.runtime.errors import UserError

SUPPORTED = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")  # XLSR is of type wav2vec2
# Only used while training with masks; checkpoints for other tasks leave it out.
OPTIONAL_WEIGHTS = {"masked_spec_embed"}
VARIANCE_FLOOR = 1e-7  # as in transformers' Wav2Vec2FeatureExtractor


class HuggingFaceEncoder:
    """Output of one transformer block of a wav2vec 2.0, XLSR, HuBERT, WavLM or data2vec model.

    Blocks above the chosen one are cut away, and `encode_blocks` gives the outputs of all others.

    Parameters
    ----------
    checkpoint : str
        Name on the Hugging Face hub, or a local folder.
    layer : int or None
        0-based block; its output is ``hidden_states[layer + 1]`` of the whole model. None: the last
        one, so that no block is cut away.
    device : str
        See `runtime.device.pick_device`.

    Attributes
    ----------
    block_names : list of str
        Numbers of the blocks that are kept, from 0.
    normalizes : bool
        Whether every waveform is brought to mean 0 and variance 1, as in the model's training.
    pads : bool
        Whether waveforms of different lengths may share a padded batch without changing each other.

    Raises
    ------
    UserError
        If the checkpoint cannot be loaded, is of another kind, is incomplete, wants another sample
        rate, or has no such block.
    """

    def __init__(self, checkpoint: str, *, layer: int | None, device: str = "auto") -> None:
        config = _load_config(checkpoint)
        if layer is None:
            layer = int(config.num_hidden_layers) - 1
        if layer >= config.num_hidden_layers:
            raise UserError(
                f"features.layer: {checkpoint} has {config.num_hidden_layers} blocks, so the last "
                f"layer is {config.num_hidden_layers - 1}, not {layer}"
            )
        preprocessor = _load_preprocessor(checkpoint)
        wanted_rate = preprocessor.get("sampling_rate", SAMPLE_RATE)
        if wanted_rate != SAMPLE_RATE:
            raise UserError(
                f"features.encoder: {checkpoint} wants audio at {wanted_rate} Hz; choose an "
                f"encoder for {SAMPLE_RATE} Hz"
            )
        # data2vec has no such key: all its convolutions are followed by LayerNorm.
        layer_norm = getattr(config, "feat_extract_norm", "layer") == "layer"
        self.normalizes = bool(preprocessor.get("do_normalize", layer_norm))
        self.pads = layer_norm and not _padding_leaks(config)
        self.name = f"{checkpoint} layer {layer}"
        self.block_names = [str(block) for block in range(layer + 1)]
        self.dim = int(config.hidden_size)
        self._kernels = tuple(config.conv_kernel)
        self._strides = tuple(config.conv_stride)
        self.frame_rate_hz = SAMPLE_RATE / math.prod(self._strides)
        self._device = pick_device(device)
        self._model = _load_model(checkpoint)
        self._model.encoder.layers = self._model.encoder.layers[: layer + 1]
        self._model.to(self._device)
        self._wanted: Sequence[int] = ()
        self._captured: list[torch.Tensor] = []  # of the wanted blocks, in their order
        for block, module in enumerate(self._model.encoder.layers):
            module.register_forward_hook(partial(self._capture, block))

    def encode(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        """Encode waveforms of (samples,) into frames of (T, D); see `Encoder.encode`."""
        return [blocks[0] for blocks in self._encode(waveforms, [len(self.block_names) - 1])]

    def encode_blocks(self, waveforms: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Encode waveforms into the frames of every block; see `probe.blocks.BlockEncoder`."""
        return self._encode(waveforms, range(len(self.block_names)))

    def _encode(self, waveforms: list[np.ndarray], wanted: Sequence[int]) -> list[list[np.ndarray]]:
        frames = [[np.zeros((0, self.dim), dtype=np.float32) for _ in wanted] for _ in waveforms]
        groups: dict[int, list[int]] = defaultdict(list)
        for index, waveform in enumerate(waveforms):
            if self.n_frames(len(waveform)) > 0:
                groups[0 if self.pads else len(waveform)].append(index)
        for members in groups.values():
            encoded = self._encode_batch([waveforms[index] for index in members], wanted)
            for index, blocks in zip(members, encoded, strict=True):
                frames[index] = blocks
        return frames

    def n_frames(self, n_samples: int) -> int:
        """Count the frames that so many samples give: whole receptive fields only."""
        for kernel, stride in zip(self._kernels, self._strides, strict=True):
            if n_samples < kernel:
                return 0
            n_samples = (n_samples - kernel) // stride + 1
        return n_samples

    @torch.inference_mode()
    def _encode_batch(
        self, waveforms: list[np.ndarray], wanted: Sequence[int]
    ) -> list[list[np.ndarray]]:
        longest = max(len(waveform) for waveform in waveforms)
        samples = np.zeros((len(waveforms), longest), dtype=np.float32)  # (B, samples)
        mask = np.zeros((len(waveforms), longest), dtype=np.int64)
        for row, waveform in enumerate(waveforms):
            samples[row, : len(waveform)] = self._prepare(waveform)
            mask[row, : len(waveform)] = 1
        self._wanted, self._captured = wanted, []
        try:
            self._model(
                torch.from_numpy(samples).to(self._device),
                attention_mask=None if mask.all() else torch.from_numpy(mask).to(self._device),
            )
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"features.batch_seconds: {samples.size / SAMPLE_RATE:.0f} s of audio in one batch "
                f"do not fit the memory of {self._device}; set a smaller value"
            ) from error
        if len(self._captured) != len(wanted):
            raise RuntimeError("not all of the encoder's blocks were run")
        captured = [hidden.float().cpu().numpy() for hidden in self._captured]  # (B, T, D) each
        self._captured = []
        # Copies, so that a short utterance does not keep the whole padded batch alive.
        return [
            [hidden[row, : self.n_frames(len(waveform))].copy() for hidden in captured]
            for row, waveform in enumerate(waveforms)
        ]

    def _prepare(self, waveform: np.ndarray) -> np.ndarray:
        samples = np.asarray(waveform, dtype=np.float32)
        if self.normalizes:
            samples = (samples - samples.mean()) / np.sqrt(samples.var() + VARIANCE_FLOOR)
        return samples

    def _capture(self, block: int, module: nn.Module, inputs: Any, output: Any) -> None:
        if block in self._wanted:
            # WavLM's blocks, and all blocks of older versions, return a tuple that starts with it.
            self._captured.append(output[0] if isinstance(output, tuple) else output)


def _padding_leaks(config: Any) -> bool:
    """Tell whether padding reaches valid frames in spite of the attention mask.

    Padded frames are set to 0 before the convolution that encodes positions, which is what the
    zeros beyond an unpadded waveform are. That holds for a single convolution: the stack of
    data2vec, and HuBERT's batch norm in front, turn these zeros into something else. (Extractors
    with group norm, the third case, take their statistics over the padding.)
    """
    return config.model_type == "data2vec-audio" or getattr(config, "conv_pos_batch_norm", False)


def _load_config(checkpoint: str) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        raise _unloadable(checkpoint, error) from error
    if config.model_type not in SUPPORTED:
        raise UserError(
            f"features.encoder: {checkpoint} is a {config.model_type} model; choose one of the "
            f"kinds {', '.join(SUPPORTED)}"
        )
    return config


def _load_preprocessor(checkpoint: str) -> dict[str, Any]:
    from transformers import Wav2Vec2FeatureExtractor

    try:
        values, _ = Wav2Vec2FeatureExtractor.get_feature_extractor_dict(checkpoint)
    except OSError:  # many checkpoints come without one
        return {}
    return dict(values)


def _load_model(checkpoint: str) -> Any:
    from transformers import AutoModel

    try:
        model, report = AutoModel.from_pretrained(checkpoint, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unloadable(checkpoint, error) from error
    missing = sorted(set(report["missing_keys"]) - OPTIONAL_WEIGHTS)
    if missing:  # transformers would go on with random numbers in their place
        raise UserError(
            f"features.encoder: {checkpoint} lacks {len(missing)} weights, {missing[0]} the first; "
            "choose a complete checkpoint"
        )
    # Some checkpoints are stored in half precision, which CPUs compute slowly or not at all.
    return model.float().eval()


def _unloadable(checkpoint: str, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return UserError(
        f"features.encoder: cannot load {checkpoint}; give `mfcc`, a local folder with config.json "
        f"and weights, or a Hugging Face name this machine can reach ({reason})"
    )
