"""Checkpoints that survive a kill: one safetensors file, replaced atomically, no pickle.

Nested dictionaries and lists (an optimiser's state, say) are kept as a JSON skeleton in the file's
metadata, with every tensor under its path, so that what is loaded can never run code.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wav2vec_u.runtime.errors import UserError

_TENSOR = "__tensor__"
_PAIRS = "__pairs__"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors, numbers, strings, booleans and None.

    Raises
    ------
    OSError
        If the disk is full or the file cannot be written; an older checkpoint stays as it was.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> save_checkpoint(path, {"step": 3, "weights": [torch.ones(2)], "by_index": {0: 0.5}})
    >>> load_checkpoint(path)
    {'step': 3, 'weights': [tensor([1., 1.])], 'by_index': {0: 0.5}}
    """
    tensors: dict[str, torch.Tensor] = {}
    skeleton = _strip(state, "", tensors)
    temporary = path.with_name(path.name + ".tmp")
    try:
        save_file(tensors, temporary, metadata={"skeleton": json.dumps(skeleton)})
    except SafetensorError as error:
        # safetensors tells the system's errors in its own words: "I/O error: ... (os error 28)".
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU.

    Raises
    ------
    UserError
        If the file is missing, damaged, or not one of our checkpoints.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state = _fill(json.loads(metadata["skeleton"]), tensors)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: is no readable checkpoint; remove it and run again ({error})"
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: is no checkpoint of wav2vec-u; remove it and run again")
    return state


def _strip(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: path}
    if isinstance(value, dict):
        # Pairs, because JSON would turn the integer keys of optimiser states into strings.
        return {
            _PAIRS: [[key, _strip(item, f"{path}/{key}", tensors)] for key, item in value.items()]
        }
    if isinstance(value, (list, tuple)):
        return [_strip(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"cannot keep a {type(value).__name__} in a checkpoint (at {path or '/'})")


def _fill(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _fill(item, tensors) for key, item in value[_PAIRS]}
    if isinstance(value, list):
        return [_fill(item, tensors) for item in value]
    return value
