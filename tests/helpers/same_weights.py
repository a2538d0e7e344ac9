"""Whether two generators are the same."""

from __future__ import annotations

import torch

from wav2vec_u.matching.generator import Generator


def same_weights(one: Generator, other: Generator) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)
