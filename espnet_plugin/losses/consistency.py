"""Consistency between two views of the same utterances (CR-CTC, arXiv 2410.05101).

Both views are encoded, and each is to say of every frame what the other says of it:

    L_CR(a, b) = 1/2 sum_t [ KL(sg(p_t^b) || p_t^a) + KL(sg(p_t^a) || p_t^b) ]

where p_t is the posterior over the vocabulary at frame t and sg stops the gradient: the view under
the bar is a target, as a teacher's would be. A view is given L^a = sum_t KL(sg(p_t^b) || p_t^a);
the mean over both is L_CR.

Shape legend: B utterances, T frames, V vocabulary with blank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.losses.reduction import reduce_losses


def consistency_loss(logits: Tensor, lengths: Tensor, *, reduction: str = "mean") -> Tensor:
    """KL divergence of each view from the other, which counts as a constant, summed over frames.

    Args:
        logits: [2B, T, V], unnormalised; row i and row B + i are views of the same utterance.
        lengths: [2B] valid frames; equal in both views. Frames beyond them may hold anything.
        reduction: "none" (one value a row, [2B]), "sum" or "mean" (L_CR per utterance).

    Returns:
        Of `reduction`, in float32 (float64 for float64 logits).

    Raises:
        ValueError: an odd number of rows, lengths of another number, an unknown reduction.
    """
    rows = logits.size(0)
    if rows % 2 or lengths.shape != (rows,):
        raise ValueError(
            "consistency_loss takes two views, one after the other, in logits [2B, T, V] with "
            f"lengths [2B]; got {tuple(logits.shape)} and {tuple(lengths.shape)}"
        )
    steps = torch.arange(logits.size(1), device=logits.device)
    beyond = steps >= lengths.to(logits.device)[:, None]  # [2B, T]
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logits = logits.masked_fill(beyond[..., None], 0.0)
    log_probs = logits.log_softmax(-1)  # [2B, T, V]
    targets = log_probs.detach().roll(rows // 2, 0)  # the other view's
    divergence = torch.nn.functional.kl_div(
        log_probs, targets, reduction="none", log_target=True
    ).sum(-1)  # [2B, T]
    return reduce_losses(divergence.masked_fill(beyond, 0.0).sum(1), reduction)
