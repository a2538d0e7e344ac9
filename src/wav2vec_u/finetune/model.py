"""A fine-tuned model as a folder, and what it makes of speech.

``model.json`` says what the network and its units are, ``model.safetensors`` holds the weights in
half precision, which halves the file and moves no error rate.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.corpus.audio import Samples
from wav2vec_u.finetune.acoustic_model import AcousticModel, greedy_ids
from wav2vec_u.finetune.backbone import build_backbone
from wav2vec_u.finetune.units import Units
from wav2vec_u.runtime.device import pick_device
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
SCHEMA = 1

Emission = npt.NDArray[np.float32]


class FinetunedModel:
    """A recogniser made by fine-tuning.

    Parameters
    ----------
    network : AcousticModel
    units : Units
    info : dict
        What is known of its making; JSON values.
    device : str
        See `runtime.device.pick_device`.

    Attributes
    ----------
    output_rate_hz : float
        Rows of an emission a second.
    """

    def __init__(
        self, network: AcousticModel, units: Units, info: dict[str, Any], device: str = "auto"
    ) -> None:
        self.device = pick_device(device)
        self.network = network.to(self.device).eval()
        self.units = units
        self.info = info
        self.output_rate_hz = network.output_rate_hz

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> FinetunedModel:
        """Load what `save` wrote.

        Raises
        ------
        UserError
            If a file is missing or damaged, or the two do not belong together.
        """
        path = folder / DESCRIPTION
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            if described["schema"] != SCHEMA:
                raise UserError(f"{path}: is of another version of wav2vec-u; fine-tune again")
            units = Units(
                described["units"]["kind"],
                tuple(described["units"]["symbols"]),
                described["units"]["language"],
            )
            network = AcousticModel(
                build_backbone(described["encoder"]),
                len(units),
                outputs_per_step=int(described["outputs_per_step"]),
            )
            weights = load_file(folder / WEIGHTS)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or ["no reason given"])[0]
            raise UserError(
                f"{folder}: is no complete fine-tuned model; fine-tune again ({reason})"
            ) from error
        wanted = network.state_dict()
        wrong = sorted(
            name
            for name in wanted.keys() | weights.keys()
            if name not in weights
            or name not in wanted
            or weights[name].shape != wanted[name].shape
        )
        if wrong:
            raise UserError(
                f"{folder / WEIGHTS}: does not fit {DESCRIPTION} ({len(wrong)} tensors, {wrong[0]} "
                "the first); take both files from one model"
            )
        if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
            raise UserError(f"{folder / WEIGHTS}: holds NaN or infinity; fine-tune again")
        network.load_state_dict(
            {name: value.to(wanted[name].dtype) for name, value in weights.items()}
        )
        return cls(network, units, described["info"], device)

    def save(self, folder: Path) -> None:
        """Write the weights, then the description, so that half a folder is no model."""
        weights = {
            name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
            for name, value in self.network.state_dict().items()
        }
        temporary = folder / (WEIGHTS + ".tmp")
        save_file(weights, temporary)
        temporary.replace(folder / WEIGHTS)
        write_json(
            folder / DESCRIPTION,
            {
                "schema": SCHEMA,
                "encoder": self.network.backbone.description(),
                "outputs_per_step": self.network.outputs_per_step,
                "units": {
                    "kind": self.units.kind,
                    "symbols": list(self.units.symbols),
                    "language": self.units.language,
                },
                "info": self.info,
            },
        )

    def emissions(self, waveforms: list[Samples]) -> list[Emission]:
        """Compute log-probabilities for a decoder.

        Parameters
        ----------
        waveforms : list of ndarray, each (samples,) float32
            Mono, 16 kHz, any lengths. The caller bounds the batch.

        Returns
        -------
        list of ndarray, each (T, V + 1) float32
            Natural logarithms; the blank is the last column. T is 0 for audio shorter than the
            receptive field.
        """
        return [
            np.asarray(log_probs.cpu().numpy(), dtype=np.float32)
            for log_probs in emit(self.network, waveforms, self.device)
        ]

    def transcribe(self, waveforms: list[Samples]) -> list[list[str]]:
        """Return the symbols of the best path (greedy CTC); see `emissions` for the parameters.

        `Units.join` makes text of them.
        """
        blank = self.network.blank
        return [
            [self.units.symbols[number] for number in self.units.tidy(greedy_ids(log_probs, blank))]
            for log_probs in emit(self.network, waveforms, self.device)
        ]


@torch.inference_mode()
def emit(
    network: AcousticModel, waveforms: list[Samples], device: torch.device
) -> list[torch.Tensor]:
    """Compute the log-probabilities of each waveform, (T, V + 1) on the device.

    The network must be in evaluation mode. The result of a waveform does not depend on the others.

    Raises
    ------
    UserError
        If the device's memory is too small for the batch.
    """
    results = [torch.zeros(0, network.blank + 1) for _ in waveforms]
    groups: dict[int, list[int]] = defaultdict(list)
    for index, waveform in enumerate(waveforms):
        if network.n_outputs(len(waveform)) > 0:
            groups[0 if network.backbone.pads else len(waveform)].append(index)
    for members in groups.values():
        batch, lengths = pad([waveforms[index] for index in members], device)
        try:
            log_probs, counts = network(batch, lengths)  # (B, T, V + 1), (B,)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(batch, device) from error
        for row, index in enumerate(members):
            results[index] = log_probs[row, : int(counts[row])]
    return results


def pad(waveforms: list[Samples], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Put waveforms into one batch: (B, samples) padded with zeros, and (B,) lengths."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    batch = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in enumerate(waveforms):
        batch[row, : len(waveform)] = torch.from_numpy(np.asarray(waveform, dtype=np.float32))
    return batch.to(device), lengths.to(device)


def out_of_memory(batch: torch.Tensor, device: torch.device) -> UserError:
    """Say which setting makes a padded batch, (B, samples), fit."""
    return UserError(
        f"finetune.batch_seconds: {batch.numel() / SAMPLE_RATE:.0f} s of audio in one batch do not "
        f"fit the memory of {device}; set a smaller value"
    )
