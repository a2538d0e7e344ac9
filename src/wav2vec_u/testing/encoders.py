"""Tiny, randomly initialised encoders, saved as real checkpoints: tests and demos without a net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

EncoderKind = Literal[
    "wav2vec2-group", "wav2vec2-layer", "hubert", "wavlm", "wavlm-layer", "data2vec-audio"
]
ENCODER_KINDS: tuple[EncoderKind, ...] = (
    "wav2vec2-group",
    "wav2vec2-layer",
    "hubert",
    "wavlm",
    "wavlm-layer",
    "data2vec-audio",
)


def save_tiny_encoder(
    folder: Path, kind: EncoderKind, *, blocks: int = 3, dim: int = 16, seed: int = 0
) -> Path:
    """Save an untrained encoder with the real models' strides (50 frames a second).

    Parameters
    ----------
    folder : Path
        Where the checkpoint goes; made if missing.
    kind : str
        ``-group`` models, ``hubert`` and ``wavlm`` are built like the published base models
        (group-norm extractor, LayerNorm after each sub-layer), ``-layer`` models like the large
        ones and XLSR (layer-norm extractor, LayerNorm before).
    blocks : int
        Transformer blocks.
    dim : int
        Hidden size; a multiple of 4.
    seed : int
        Of the weights.

    Returns
    -------
    Path
        `folder`, with the weights, ``config.json`` and ``preprocessor_config.json``.
    """
    large = kind.endswith("-layer")
    model = _build(kind, large, blocks, dim, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    preprocessor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": 16_000,
        "do_normalize": large or kind == "data2vec-audio",
        "padding_value": 0.0,
        "return_attention_mask": large,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), encoding="utf-8")
    return folder


def _build(kind: EncoderKind, large: bool, blocks: int, dim: int, seed: int) -> Any:
    from transformers import AutoConfig, AutoModel

    shared: dict[str, Any] = {
        "hidden_size": dim,
        "num_hidden_layers": blocks,
        "num_attention_heads": 4,
        "intermediate_size": 2 * dim,
        "conv_dim": [8] * 7,  # kernels and strides stay those of the published models
        "num_conv_pos_embedding_groups": 2,
        # Wider than the published 0.02, so that an untrained block visibly changes its input.
        "initializer_range": 0.2,
    }
    if kind == "data2vec-audio":
        config = AutoConfig.for_model(kind, num_conv_pos_embeddings=3, **shared)
    else:
        config = AutoConfig.for_model(
            kind.split("-")[0],
            num_conv_pos_embeddings=16,
            feat_extract_norm="layer" if large else "group",
            do_stable_layer_norm=large,
            conv_bias=large,
            **shared,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config(config)
