"""Which device computes."""

from __future__ import annotations

import torch

from wav2vec_u.runtime.errors import UserError


def pick_device(name: str) -> torch.device:
    """Turn a setting into a device: ``auto`` is CUDA where there is one, else the CPU.

    Raises
    ------
    UserError
        If the named device does not exist on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device: {name} is unknown; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device: {name} was asked for, but this machine has no usable GPU")
    return device
