"""Which steps are hidden from the context network (wav2vec 2.0, sections 3.1 and 4.2)."""

from __future__ import annotations

import torch


def span_mask(
    valid: torch.Tensor,
    probability: float,
    length: int,
    generator: torch.Generator,
    min_spans: int = 1,
) -> torch.Tensor:
    """Draw spans of steps to mask.

    Every step at which a whole span fits into the utterance starts one with the same probability,
    independently; spans may overlap. Away from the ends of the utterance a step is therefore masked
    with probability ``1 - (1 - p)^M``, which is 0.49 for the paper's p = 0.065 and M = 10.

    Parameters
    ----------
    valid : (B, T) bool tensor
        Steps that lie inside their utterance.
    probability : float
        p, that a step starts a span.
    length : int
        M, steps in a span.
    generator : torch.Generator
        The numbers are drawn on its device, so that one seed gives one mask on every machine.
    min_spans : int
        Spans that an utterance gets at least, as far as so many different ones fit. One span of two
        steps or more is what the contrastive loss needs to have a distractor.

    Returns
    -------
    (B, T) bool tensor
        Masked steps, all of them valid. An utterance shorter than `length` has none.
    """
    masked = torch.zeros_like(valid)
    if valid.shape[1] < length:
        return masked
    fits = valid.unfold(1, length, 1).all(dim=2)  # (B, T - length + 1)
    draws = torch.rand(fits.shape, generator=generator, device=generator.device).to(valid.device)
    draws = draws.masked_fill(~fits, torch.inf)
    threshold = torch.full_like(draws[:, :1], probability)  # (B, 1)
    wanted = min(min_spans, fits.shape[1])
    if wanted > 0:
        # Draws are exchangeable: those with the lowest ones are a fair choice of `wanted` starts.
        lowest = draws.topk(wanted, dim=1, largest=False).values[:, -1:]
        just_above = torch.nextafter(lowest, torch.full_like(lowest, torch.inf))
        threshold = torch.maximum(threshold, just_above)
    starts = fits & (draws < threshold)
    for offset in range(length):
        masked[:, offset : offset + starts.shape[1]] |= starts
    return masked
