"""Frame models whose answers are known: what is said is the vector, and every phone is as likely.

They are written as the self-training stage writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from wav2vec_u.matching.decipherment import CodeLanguage
from wav2vec_u.matching.frame_hmm import FrameHmm
from wav2vec_u.matching.generator import Generator
from wav2vec_u.matching.ngram_hmm import PhoneTransitions
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.selftrain.stage import START_NAME


def even_hmm(outputs: int, power: float = 1.0, stay: float = 0.5) -> FrameHmm:
    """A model of frames to which all outputs but the first are phones, any after any other."""
    n = outputs - 1
    even = np.full((n, n + 1, n), 1 / n, dtype=np.float32)
    language = CodeLanguage(np.arange(1, outputs), PhoneTransitions(even[0, 0], even[:, 0], even))
    return FrameHmm(language, np.full(outputs, 1 / outputs, np.float32), power, stay)


def identity_generator(outputs: int, kernel: int = 1, **options: Any) -> Generator:
    """A generator whose best phone is the one whose one-hot vector its own segment is."""
    generator = Generator(outputs, outputs, kernel=kernel, **options)
    with torch.no_grad():
        generator.conv.weight.zero_()
        generator.conv.weight[:, :, kernel // 2] = 20.0 * torch.eye(outputs)
    return generator.eval()


def even_model(generator: Generator) -> FrameModel:
    """A generator that stands alone, read by a language that knows nothing."""
    return FrameModel(generator.eval(), even_hmm(generator.settings["n_phones"]))


def write_selftrain(folder: Path, model: FrameModel, start: FrameModel | None = None) -> Path:
    """Write a model, and the one before self-training, which is the same if none is given."""
    for place, one in ((folder, model), (folder / START_NAME, start or model)):
        place.mkdir(parents=True, exist_ok=True)
        one.save(place)
    return folder
