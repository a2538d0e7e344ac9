r"""Telling the cluster of the sound beside the phone (wav2vec-U 2.0).

Liu et al. (2022), *Towards end-to-end unsupervised speech recognition*: a linear layer on the
residual branch of the generator names the k-means cluster z_t of the MFCC at every segment, and

.. math:: L_{aux} = -\frac{1}{T} \sum_t \log p(z_t \mid S)

is added to what the generator minimises. A map that forgets what was heard, to say something
fluent, cannot do both. The layer is thrown away afterwards.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wav2vec_u.matching.generator import Generator

HEAD = "codes."  # what the names of the layer's weights begin with
NO_CODE = -1


class CodeGenerator(Generator):
    """A generator that says the cluster of a segment too.

    Parameters
    ----------
    n_codes : int
        C, clusters.
    **settings
        Of `Generator`; with a residual layer.
    """

    def __init__(self, n_codes: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.codes = nn.Linear(settings["in_dim"], n_codes)

    def forward(
        self, segments: Tensor, mask: Tensor, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits of the phones (B, S', V) and those of the clusters (B, S, C)."""
        x, residual = self.enter(segments, mask, rng)
        assert residual is not None
        logits, _ = self.leave(x, mask, rng)
        return logits, self.codes(residual)


def code_loss(logits: Tensor, codes: Tensor) -> Tensor:
    """Return the cross entropy of every member, (E,).

    Parameters
    ----------
    logits : Tensor
        (E, L, C).
    codes : Tensor
        (L,) int64, `NO_CODE` where nothing is to be told.
    """
    members = len(logits)
    wanted = codes.expand(members, -1)
    losses = F.cross_entropy(
        logits.transpose(1, 2), wanted, ignore_index=NO_CODE, reduction="none"
    )  # (E, L)
    return losses.sum(1) / (codes != NO_CODE).sum().clamp(min=1)
