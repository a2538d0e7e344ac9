"""Encoders that can be trained: one of our own, or a published one, behind one interface."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import nn

from wav2vec_u.config import SAMPLE_RATE, NetworkConfig
from wav2vec_u.encoder.checkpoint import load_network
from wav2vec_u.encoder.front_end import count_steps
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.encoder.shipped import find_encoder
from wav2vec_u.features.hugging_face import OPTIONAL_WEIGHTS, SUPPORTED, VARIANCE_FLOOR
from wav2vec_u.runtime.errors import UserError


@dataclass(frozen=True)
class Masks:
    """What is hidden from the Transformer while it learns.

    Attributes
    ----------
    time : (B, T) bool tensor
        Steps that are replaced by the encoder's mask vector.
    channels : (B, D) bool tensor
        Channels of the Transformer's input that are set to 0 in all steps.
    """

    time: torch.Tensor
    channels: torch.Tensor


class Backbone(nn.Module, ABC):
    """An encoder without anything on top.

    Attributes
    ----------
    dim : int
        D, numbers in a step.
    step_rate_hz : float
        Steps a second.
    pads : bool
        Whether waveforms of different lengths may share a padded batch without changing each other.
    learning_rate : float
        At which it is fine-tuned, unless the settings say otherwise.
    linear_factor : float
        How many times that rate a linear layer on top takes.
    """

    dim: int
    step_rate_hz: float
    pads: bool
    learning_rate: float
    linear_factor: float

    @abstractmethod
    def n_steps(self, n_samples: int) -> int:
        """Count the steps that so many samples give: whole receptive fields only."""

    @abstractmethod
    def forward(
        self, waveforms: torch.Tensor, lengths: torch.Tensor, masks: Masks | None = None
    ) -> torch.Tensor:
        """Encode.

        Parameters
        ----------
        waveforms : (B, samples) tensor
            Mono, 16 kHz, padded with zeros.
        lengths : (B,) int tensor
            Samples of each waveform; each must give at least one step.
        masks : Masks or None

        Returns
        -------
        (B, T, D) tensor
        """

    @abstractmethod
    def freeze_front_end(self) -> None:
        """Keep what comes before the Transformer's input projection as it is."""

    @abstractmethod
    def set_layer_drop(self, probability: float) -> None:
        """Set the probability that a block is passed over in training."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Return JSON from which `build_backbone` makes a network of the same shape."""


class OwnBackbone(Backbone):
    """An encoder of our own."""

    pads = True
    learning_rate = 5e-4  # measured, as is the factor
    linear_factor = 4.0

    def __init__(self, network: SpeechNetwork) -> None:
        super().__init__()
        self.network = network
        self.dim = network.dim
        self.step_rate_hz = network.step_rate_hz

    def n_steps(self, n_samples: int) -> int:
        """See `Backbone.n_steps`."""
        return self.network.n_steps(n_samples)

    def forward(
        self, waveforms: torch.Tensor, lengths: torch.Tensor, masks: Masks | None = None
    ) -> torch.Tensor:
        """See `Backbone.forward`."""
        with _hidden_channels(self.network.context, masks):
            output = self.network(waveforms, lengths, None if masks is None else masks.time)
        context: torch.Tensor = output.context
        return context

    def freeze_front_end(self) -> None:
        """See `Backbone.freeze_front_end`."""
        _freeze(self.network.front_end)

    def set_layer_drop(self, probability: float) -> None:
        """See `Backbone.set_layer_drop`."""
        self.network.set_layer_drop(probability)

    def description(self) -> dict[str, Any]:
        """See `Backbone.description`."""
        return {"kind": "own", "network": self.network.config.model_dump()}


class HuggingFaceBackbone(Backbone):
    """A model of the wav2vec 2.0 family, from transformers.

    Parameters
    ----------
    model : nn.Module
        Base model, without any head.
    normalizes : bool
        Whether waveforms are brought to mean 0 and variance 1, as in the model's training.
    """

    learning_rate = 5e-5  # wav2vec 2.0, appendix B: 2e-5 to 1e-4
    linear_factor = 1.0

    def __init__(self, model: Any, *, normalizes: bool) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self._config = json.loads(config.to_json_string(use_diff=False))
        self._normalizes = normalizes
        # The masks are drawn by us; those of transformers come from numpy's global state.
        config.mask_time_prob = config.mask_feature_prob = 0.0
        self._kernels = tuple(config.conv_kernel)
        self._strides = tuple(config.conv_stride)
        self.dim = int(config.hidden_size)
        self.step_rate_hz = SAMPLE_RATE / math.prod(self._strides)
        # Group norm takes its statistics over the padding; see features.hugging_face.
        self.pads = (
            getattr(config, "feat_extract_norm", "layer") == "layer"
            and config.model_type != "data2vec-audio"
            and not getattr(config, "conv_pos_batch_norm", False)
        )

    def n_steps(self, n_samples: int) -> int:
        """See `Backbone.n_steps`."""
        return count_steps(n_samples, self._kernels, self._strides)

    def forward(
        self, waveforms: torch.Tensor, lengths: torch.Tensor, masks: Masks | None = None
    ) -> torch.Tensor:
        """See `Backbone.forward`."""
        positions = torch.arange(waveforms.shape[1], device=waveforms.device)
        inside = positions[None] < lengths[:, None]  # (B, samples)
        if self._normalizes:
            waveforms = _standardized(waveforms, inside)
        with _hidden_channels(self.model.encoder, masks):
            output = self.model(
                waveforms,
                attention_mask=None if bool(inside.all()) else inside.long(),
                mask_time_indices=None if masks is None else masks.time,
            )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def freeze_front_end(self) -> None:
        """See `Backbone.freeze_front_end`."""
        _freeze(self.model.feature_extractor)

    def set_layer_drop(self, probability: float) -> None:
        """See `Backbone.set_layer_drop`."""
        self.model.encoder.config.layerdrop = probability

    def description(self) -> dict[str, Any]:
        """See `Backbone.description`."""
        return {"kind": "hugging_face", "config": self._config, "normalizes": self._normalizes}


def load_backbone(encoder: str) -> Backbone:
    """Load an encoder's weights.

    Parameters
    ----------
    encoder : str
        ``base``, a folder that `encoder.checkpoint.save_encoder` wrote, or a checkpoint of the
        wav2vec 2.0 family: local folder or Hugging Face name.

    Raises
    ------
    UserError
        If there is no such encoder, or it is damaged, incomplete or of another kind.
    """
    own = find_encoder(encoder)
    if own is not None:
        return OwnBackbone(load_network(own))
    return _load_hugging_face(encoder)


def build_backbone(description: dict[str, Any]) -> Backbone:
    """Make an untrained network from what `Backbone.description` returned.

    Raises
    ------
    ValueError
        If it describes no network.
    """
    from transformers import AutoConfig, AutoModel

    try:
        if description["kind"] == "own":
            return OwnBackbone(SpeechNetwork(NetworkConfig.model_validate(description["network"])))
        values = dict(description["config"])
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        model = AutoModel.from_config(config)
        return HuggingFaceBackbone(model, normalizes=bool(description["normalizes"]))
    except (KeyError, TypeError, ValidationError) as error:
        raise ValueError(f"describes no encoder: {error}") from error


def _load_hugging_face(encoder: str) -> HuggingFaceBackbone:
    from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

    try:
        config = AutoConfig.from_pretrained(encoder)
    except (OSError, ValueError) as error:
        raise _unloadable(encoder, error) from error
    if config.model_type not in SUPPORTED:
        raise UserError(
            f"{encoder}: is a {config.model_type} model; choose an encoder of the kinds "
            f"{', '.join(SUPPORTED)}"
        )
    config.add_adapter = False  # it would thin out the steps
    config.apply_spec_augment = True
    # Without a positive probability the model has no mask vector.
    config.mask_time_prob = config.mask_time_prob or 0.05
    try:
        model, report = AutoModel.from_pretrained(encoder, config=config, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unloadable(encoder, error) from error
    missing = sorted(set(report["missing_keys"]) - OPTIONAL_WEIGHTS)
    if missing:  # transformers would go on with random numbers in their place
        raise UserError(
            f"{encoder}: lacks {len(missing)} weights, {missing[0]} the first; choose a complete "
            "checkpoint"
        )
    try:
        preprocessor, _ = Wav2Vec2FeatureExtractor.get_feature_extractor_dict(encoder)
    except OSError:  # many checkpoints come without one
        preprocessor = {}
    if preprocessor.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise UserError(
            f"{encoder}: wants audio at {preprocessor['sampling_rate']} Hz; choose an encoder for "
            f"{SAMPLE_RATE} Hz"
        )
    layer_norm = getattr(config, "feat_extract_norm", "layer") == "layer"
    return HuggingFaceBackbone(
        model.float(), normalizes=bool(preprocessor.get("do_normalize", layer_norm))
    )


def _unloadable(encoder: str, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return UserError(
        f"{encoder}: cannot be loaded; give the folder of an encoder, or a Hugging Face name this "
        f"machine can reach ({reason})"
    )


def _freeze(front_end: nn.Module) -> None:
    front_end.requires_grad_(False)
    for module in front_end.modules():
        # transformers' convolutions ask for the gradient of the waveform unless told not to.
        if hasattr(module, "_freeze_parameters"):
            convolutions: Any = module
            convolutions._freeze_parameters()


def _standardized(waveforms: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    count = inside.sum(dim=1, keepdim=True)
    mean = (waveforms * inside).sum(dim=1, keepdim=True) / count  # (B, 1)
    centred = (waveforms - mean) * inside
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred * (variance + VARIANCE_FLOOR).rsqrt()


@contextmanager
def _hidden_channels(transformer: nn.Module, masks: Masks | None) -> Iterator[None]:
    """Set channels of the Transformer's input to 0 while the block runs."""
    if masks is None:
        yield
        return
    hidden = masks.channels[:, None, :]  # (B, 1, D)

    def hide(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0].masked_fill(hidden, 0.0), *inputs[1:])

    handle = transformer.register_forward_pre_hook(hide)
    try:
        yield
    finally:
        handle.remove()
