"""The tri-stage learning rate (wav2vec 2.0, section 4.3)."""

from __future__ import annotations

FINAL_SCALE = 0.05  # reference: final_lr_scale


def tri_stage_scale(update: int, updates: int, warm_up_share: float, hold_share: float) -> float:
    """Return the factor of the learning rate: linear warm-up, hold, linear decay.

    Parameters
    ----------
    update : int
        0-based.
    updates : int
        Of the whole training.
    warm_up_share, hold_share : float
        Shares of the updates; the rest decays to a twentieth. Paper: 0.1 and 0.4.

    Examples
    --------
    >>> [round(tri_stage_scale(update, 10, 0.2, 0.3), 2) for update in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.81, 0.62, 0.43, 0.24, 0.05]
    """
    warm_up = warm_up_share * updates
    decay_from = (warm_up_share + hold_share) * updates
    done = update + 1
    if done <= warm_up:
        return done / warm_up
    if done <= decay_from:
        return 1.0
    progress = (done - decay_from) / (updates - decay_from)
    return 1.0 - (1.0 - FINAL_SCALE) * progress
