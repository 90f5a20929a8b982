"""Reduction over sequences, and what to do with sequences that have no alignment.

Shapes: B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

REDUCTIONS = ("none", "sum", "mean")
INFEASIBLE = ("error", "inf", "skip")


def check_reduction(reduction: str) -> None:
    """Raise if ``reduction`` is unknown.

    Raises:
        ValueError: naming the value and the choices.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")


def check_infeasible(infeasible: str) -> None:
    """Raise if ``infeasible`` is unknown.

    Raises:
        ValueError: naming the value and the choices.
    """
    if infeasible not in INFEASIBLE:
        raise ValueError(f"infeasible must be one of {INFEASIBLE}, got {infeasible!r}")


def reduce_losses(losses: Tensor, reduction: str, used: Tensor | None = None) -> Tensor:
    """Reduce one loss per sequence.

    Args:
        losses: [B].
        reduction: ``none`` (returns [B]), ``sum``, or ``mean`` over the used sequences.
        used: bool [B]; the others count as 0 and are left out of the mean's denominator.

    Returns:
        [B] or a scalar. The mean over no sequence is 0.

    Raises:
        ValueError: unknown reduction.
    """
    check_reduction(reduction)
    if used is not None:
        losses = losses.masked_fill(~used, 0.0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    count = torch.as_tensor(losses.shape[0], device=losses.device) if used is None else used.sum()
    return losses.sum() / count.clamp(min=1)


def reduce_path_losses(losses: Tensor, reduction: str, infeasible: str) -> Tensor:
    """Reduce negative log-probabilities of which some may be +inf (no alignment exists).

    Args:
        losses: [B]; the gradient of an infinite one must be zero already.
        reduction: see :func:`reduce_losses`.
        infeasible: ``inf`` leaves them infinite, ``skip`` makes them 0 and leaves them out of
            the mean, ``error`` raises (and synchronises with the device to find out).

    Raises:
        ValueError: unknown option, or ``error`` and a sequence without any alignment.
    """
    check_infeasible(infeasible)
    if infeasible == "inf":
        return reduce_losses(losses, reduction)
    used = ~torch.isposinf(losses.detach())
    if infeasible == "error" and not bool(used.all()):
        names = (~used).nonzero().flatten().tolist()
        raise ValueError(
            f"sequences {names} of the batch have no alignment: more labels than frames, or "
            'every path of probability 0; leave them out or pass infeasible="skip"'
        )
    return reduce_losses(losses, reduction, used)
