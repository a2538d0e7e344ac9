"""Encoders as folders: ``encoder.json`` says what the network is, ``encoder.safetensors`` holds it.

Weights are stored in half precision, which halves the file and moves no error rate.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wav2vec_u.config import NetworkConfig
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_text

DESCRIPTION = "encoder.json"
WEIGHTS = "encoder.safetensors"
SCHEMA = 1


def save_encoder(folder: Path, network: SpeechNetwork, info: dict[str, Any]) -> None:
    """Write a network as an encoder; the description comes last, so that half a folder is none.

    Parameters
    ----------
    folder : Path
        Made if missing.
    network : SpeechNetwork
    info : dict
        What is worth knowing about its making: data, hours, command, updates. JSON values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().cpu().half().contiguous()
        for name, value in network.state_dict().items()
    }
    temporary = folder / (WEIGHTS + ".tmp")
    save_file(weights, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.chmod(0o644)  # safetensors keeps files to their owner; an encoder is to be shared
    temporary.replace(folder / WEIGHTS)
    description = {"schema": SCHEMA, "network": network.config.model_dump(), "info": info}
    write_text(folder / DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False) + "\n")


def is_encoder(folder: Path) -> bool:
    """Tell whether a folder holds an encoder of our own."""
    return (folder / DESCRIPTION).is_file()


def load_description(folder: Path) -> dict[str, Any]:
    """Read what is known of an encoder.

    Raises
    ------
    UserError
        If the file is missing or damaged, or was written by a later version.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: is no readable description of an encoder; fetch or train it again ({error})"
        ) from error
    if not isinstance(description, dict) or description.get("schema") != SCHEMA:
        raise UserError(f"{path}: is of another version of wav2vec-u; train the encoder again")
    return description


def recommended_layer(folder: Path) -> int | None:
    """Return the 0-based block that an encoder's makers recommend; None if they name none."""
    layer = load_description(folder).get("info", {}).get("layer")
    return None if layer is None else int(layer)


def load_network(folder: Path) -> SpeechNetwork:
    """Load an encoder's network, in single precision, ready to encode.

    Raises
    ------
    UserError
        If a file is missing or damaged, or the weights do not belong to the description.
    """
    description = load_description(folder)
    try:
        network = SpeechNetwork(NetworkConfig.model_validate(description["network"]))
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, KeyError, ValidationError, UserError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{folder}: is no complete encoder; fetch or train it again ({reason})"
        ) from error
    wanted = network.state_dict()
    wrong = sorted(
        name
        for name in wanted.keys() | weights.keys()
        if name not in weights or name not in wanted or weights[name].shape != wanted[name].shape
    )
    if wrong:
        raise UserError(
            f"{folder / WEIGHTS}: does not fit {DESCRIPTION} ({len(wrong)} tensors, {wrong[0]} the "
            "first); take both files from one encoder"
        )
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise UserError(f"{folder / WEIGHTS}: holds NaN or infinity; fetch or train it again")
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    return network.eval()
