"""Frame-wise cross entropies on a fixed alignment: the Viterbi stage.

Shapes: B batch, T frames, P steps of a path, V vocabulary with blank.

With y the alignment and p the transducer along its path (method.md, stage 1; Zhou et al. 2022,
section 3):

    L_viterbi = sum_t CE_smooth(y_t) + boost * sum_{t: y_t != blank} -log p(y_t | ...)
    L_enc     = sum_t -(1 - q_t)^focal log q_t,     q_t = q(y_t | h_t)

Smoothing mixes the target with the uniform distribution over all V symbols:
CE_smooth(y) = -(1 - s) log p(y) - s/V sum_v log p(v).
In the `rnnt` topology t of L_viterbi counts the T + S steps of the path, and L_enc sums over the
labels of every frame, or blank where a frame has none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.losses import inputs
from espnet_plugin.losses.reduction import check_reduction, reduce_losses


def _check(logits: Tensor, alignment: Tensor, lengths: Tensor, check: bool | None) -> None:
    inputs.check_floating("logits", logits, 3)
    batch, frames, vocab_size = logits.shape
    inputs.check_lengths("lengths", lengths, batch, frames, 0, check)
    inputs.check_symbols("alignment", alignment, lengths, vocab_size, blank=None, check=check)
    if alignment.shape[1] != frames:
        raise ValueError(f"alignment has {alignment.shape[1]} frames, logits have {frames}")
    inputs.check_same_device(logits=logits, alignment=alignment)


def _frame_log_probs(
    logits: Tensor, alignment: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """log p(y_t) [B, T] (0 past the end), all log p [B, T, V], and which frames count [B, T]."""
    used = torch.arange(logits.shape[1], device=logits.device) < lengths.to(logits.device)[:, None]
    log_probs = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    # Padding may hold NaN, which a mask after the softmax would let back into the gradient.
    log_probs = log_probs.masked_fill(~used[:, :, None], 0.0).log_softmax(-1)
    index = alignment.long().masked_fill(~used, 0)
    picked = log_probs.gather(2, index[:, :, None]).squeeze(2)
    return picked.masked_fill(~used, 0.0), log_probs, used


def _check_steps(
    logits: Tensor, alignment: Tensor, lengths: Tensor, frames: Tensor, check: bool | None
) -> None:
    inputs.check_floating("logits", logits, 3)
    if frames.shape != alignment.shape:
        raise ValueError(
            f"frames has shape {tuple(frames.shape)}, alignment {tuple(alignment.shape)}"
        )
    inputs.check_lengths("lengths", lengths, len(logits), alignment.shape[1], 0, check)
    inputs.check_symbols("alignment", alignment, lengths, logits.shape[2], blank=None, check=check)
    inputs.check_same_device(logits=logits, alignment=alignment, frames=frames)


def _step_log_probs(
    logits: Tensor, alignment: Tensor, lengths: Tensor, frames: Tensor
) -> tuple[Tensor, Tensor]:
    """log p(y_n) [B, P] on each step's frame (0 where it does not count), and which count."""
    steps = torch.arange(alignment.shape[1], device=logits.device)
    used = (steps < lengths.to(logits.device)[:, None]) & (frames >= 0)
    scores = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    covered = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
    rows = torch.arange(len(logits), device=logits.device)[:, None]
    frames = frames.clamp(min=0)
    covered[rows.expand_as(frames)[used], frames[used]] = True
    # Padding may hold NaN, which a mask after the softmax would let back into the gradient.
    log_probs = scores.masked_fill(~covered[:, :, None], 0.0).log_softmax(-1)
    picked = log_probs[rows, frames, alignment.long().masked_fill(~used, 0)]
    return picked.masked_fill(~used, 0.0), used


def viterbi_loss(
    logits: Tensor,
    alignment: Tensor,
    lengths: Tensor,
    *,
    blank: int = 0,
    label_smoothing: float = 0.2,
    boost: float = 5.0,
    reduction: str = "mean",
    check: bool | None = None,
) -> Tensor:
    """Smoothed cross entropy along an alignment, label frames boosted (L1 of method.md).

    Args:
        logits: unnormalised scores along the path, [B, P, V].
        alignment: blank or label of every step, [B, P]; padding may hold anything.
        lengths: steps of each sequence, [B]; frames in the monotonic topology.
        blank: index of the blank; its steps are not boosted.
        label_smoothing: mass s given to the uniform distribution, in [0, 1).
        boost: weight of the additional unsmoothed loss of the label frames, >= 0.
        reduction: ``none`` [B] (sum over frames), ``sum``, or ``mean`` over sequences.
        check: check values as well as shapes (default: only of CPU tensors).

    Returns:
        Loss in nats, [B] or scalar.

    Raises:
        ValueError: shapes, dtypes, devices, lengths, symbols or options do not fit.
    """
    check_reduction(reduction)
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
    if boost < 0.0:
        raise ValueError(f"boost must not be negative, got {boost}")
    _check(logits, alignment, lengths, check)
    inputs.check_blank(blank, logits.shape[2])
    with torch.autocast(logits.device.type, enabled=False):
        picked, log_probs, used = _frame_log_probs(logits, alignment, lengths)
        weight = (1.0 - label_smoothing) + boost * (alignment != blank).to(picked.dtype)  # [B, T]
        losses = -(weight * picked).sum(1)
        if label_smoothing > 0.0:
            uniform = log_probs.mean(2).masked_fill(~used, 0.0)  # [B, T]
            losses = losses - label_smoothing * uniform.sum(1)
        return reduce_losses(losses, reduction)


def encoder_ce_loss(
    logits: Tensor,
    alignment: Tensor,
    lengths: Tensor,
    *,
    frames: Tensor | None = None,
    focal: float = 1.0,
    reduction: str = "mean",
    check: bool | None = None,
) -> Tensor:
    """Focal cross entropy of a classifier on the encoder output (L_enc of method.md).

    Args:
        logits: unnormalised scores, [B, T, V].
        alignment: symbol of every frame, [B, T], or of every step, [B, P]; padding may hold
            anything.
        lengths: frames, or steps, of each sequence, [B].
        frames: frame of every step, [B, P], -1 for a step that does not count; None: step t is
            frame t.
        focal: exponent gamma of the focal factor (1 - q_t)^gamma, >= 0; 0 is plain CE.
        reduction: ``none`` [B] (sum over frames), ``sum``, or ``mean`` over sequences.
        check: check values as well as shapes (default: only of CPU tensors).

    Returns:
        Loss in nats, [B] or scalar.

    Raises:
        ValueError: shapes, dtypes, devices, lengths, symbols or options do not fit.
    """
    check_reduction(reduction)
    if focal < 0.0:
        raise ValueError(f"focal must not be negative, got {focal}")
    if frames is None:
        _check(logits, alignment, lengths, check)
    else:
        _check_steps(logits, alignment, lengths, frames, check)
    with torch.autocast(logits.device.type, enabled=False):
        if frames is None:
            picked, _, used = _frame_log_probs(logits, alignment, lengths)
        else:
            picked, used = _step_log_probs(logits, alignment, lengths, frames)
        if focal == 0.0:
            return reduce_losses(-picked.sum(1), reduction)
        # 1 - q by expm1 keeps its gradient exact for q near 1; the floor keeps 0^focal's finite.
        miss = -torch.expm1(picked)
        factor = miss.clamp(min=torch.finfo(miss.dtype).tiny) ** focal
        return reduce_losses(-(factor * picked).masked_fill(~used, 0.0).sum(1), reduction)
