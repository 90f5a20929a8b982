"""Connectionist temporal classification with this package's argument order.

Shapes: B batch, T frames, S labels, V vocabulary with blank.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from espnet_plugin.losses import inputs
from espnet_plugin.losses.reduction import check_infeasible, check_reduction, reduce_path_losses

_IMPOSSIBLE = 1e9  # nats


def ctc_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    reduction: str = "mean",
    infeasible: str = "inf",
    check: bool | None = None,
) -> Tensor:
    """CTC (Graves et al. 2006): sum over alignments with label loops, torch's implementation.

    Args:
        logits: unnormalised scores, [B, T, V].
        targets: [B, S]; padding may hold anything.
        logit_lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        blank: index of the blank.
        reduction: ``none`` [B], ``sum``, or ``mean`` over sequences (not over labels).
        infeasible: see :func:`espnet_plugin.losses.full_sum_loss`.
        check: check values as well as shapes (default: only of CPU tensors).

    Returns:
        -log P_CTC(a|x) in nats, [B] or scalar.

    Raises:
        ValueError: shapes, dtypes, devices, lengths, symbols or options do not fit.
    """
    check_reduction(reduction)
    check_infeasible(infeasible)
    inputs.check_floating("logits", logits, 3)
    batch, frames, vocab_size = logits.shape
    inputs.check_blank(blank, vocab_size)
    inputs.check_lengths("logit_lengths", logit_lengths, batch, frames, 1, check)
    inputs.check_lengths("target_lengths", target_lengths, batch, targets.shape[-1], 0, check)
    inputs.check_symbols("targets", targets, target_lengths, vocab_size, blank=blank, check=check)
    if batch == 0:
        return reduce_path_losses(logits.sum((1, 2)), reduction, infeasible)
    with torch.autocast(logits.device.type, enabled=False):
        half = logits.dtype in (torch.float16, torch.bfloat16)
        clean_logits = inputs.without_padding(logits, logit_lengths)
        log_probs = (clean_logits.float() if half else clean_logits).log_softmax(-1)
        # torch's gradient of -inf is NaN; this far below, a symbol is as impossible.
        log_probs = log_probs.clamp(min=-_IMPOSSIBLE).transpose(0, 1)
        clean = inputs.clean_targets(targets, target_lengths, (blank + 1) % vocab_size)
        losses = F.ctc_loss(
            log_probs,
            clean,
            logit_lengths.long(),
            target_lengths.long(),
            blank,
            reduction="none",
            zero_infinity=True,  # gradient 0, never NaN ...
        )
        # ... but it also hides which sequences have no alignment: equal neighbours need a blank.
        positions = torch.arange(1, max(targets.shape[1], 1), device=targets.device)
        repeated = (clean[:, 1:] == clean[:, :-1]) & (
            positions < target_lengths.to(targets.device)[:, None]
        )
        needed = target_lengths + repeated.sum(1).to(target_lengths.device)
        impossible = (logit_lengths.to(needed.device) < needed).to(losses.device)
        losses = losses.masked_fill(impossible | (losses > 0.5 * _IMPOSSIBLE), math.inf)
        return reduce_path_losses(losses, reduction, infeasible)
