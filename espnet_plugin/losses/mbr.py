"""Minimum Bayes risk over an N-best list: the sequence discriminative stage.

Shapes: B batch, N hypotheses.

    score_n = log P(a_n | x) + log p_LM(a_n)          (LM score already scaled)
    p_n     = softmax_n(scale * score_n)
    L_mbr   = sum_n p_n * risk_n                      (method.md, stage 3)

Its gradient is d L / d log P_n = scale * p_n * (risk_n - L).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from espnet_plugin.losses import inputs
from espnet_plugin.losses.reduction import check_reduction, reduce_losses


def mbr_loss(
    log_probs: Tensor,
    risks: Tensor,
    *,
    lm_scores: Tensor | None = None,
    scale: float = 2.5,
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Expected risk under the renormalised N-best list.

    Args:
        log_probs: log P(a_n | x), [B, N]; -inf for a hypothesis without any alignment.
        risks: risk of each hypothesis (label-level edit distance), [B, N].
        lm_scores: scaled LM log-scores, [B, N].
        scale: softmax scale, > 0.
        mask: bool [B, N], True for a real hypothesis (lists may be ragged).
        reduction: ``none`` [B], ``sum``, or ``mean`` over sequences.

    Returns:
        Expected risk, [B] or scalar; 0 for a list without any usable hypothesis. The gradient
        flows to ``log_probs`` alone.

    Raises:
        ValueError: shapes or options do not fit.
    """
    check_reduction(reduction)
    if not scale > 0.0:
        raise ValueError(f"scale must be positive, got {scale}")
    inputs.check_floating("log_probs", log_probs, 2)
    for name, other in (("risks", risks), ("lm_scores", lm_scores), ("mask", mask)):
        if other is not None and other.shape != log_probs.shape:
            raise ValueError(
                f"{name} has shape {tuple(other.shape)}, log_probs {tuple(log_probs.shape)}"
            )
    with torch.autocast(log_probs.device.type, enabled=False):
        half = log_probs.dtype in (torch.float16, torch.bfloat16)
        scores = log_probs.float() if half else log_probs
        usable = scores.detach() > -math.inf
        if mask is not None:
            usable = usable & mask.bool()
        if lm_scores is not None:
            scores = scores + lm_scores.detach().to(scores.dtype)
            usable = usable & (lm_scores > -math.inf)
        # The most negative finite score keeps an all-masked row free of NaN.
        floor = torch.finfo(scores.dtype).min
        weights = (scale * scores).masked_fill(~usable, floor).softmax(1)
        risk = risks.detach().to(weights.dtype).masked_fill(~usable, 0.0)
        return reduce_losses((weights * risk).sum(1), reduction)
