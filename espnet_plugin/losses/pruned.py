"""Pruning by a simple joint network: the first half of the pruned transducer.

Shapes: B batch, T frames, S labels, V vocabulary with blank.

Kuang et al. 2022 (arXiv 2206.13236). The simple joint adds an acoustic and a label part,
z(t, u) = am(t) + lm(u), whose normaliser over V is a matrix product (eq. 5):

    log sum_v e^(am(t, v) + lm(u, v)) = log ( e^am(t) . e^lm(u) )

Its occupancies say which S_range label positions of each frame matter, and the real joint is
evaluated there only: ``fused_full_sum_loss(..., restriction=pruned_restriction(...))``. The two
losses are added, the simple one with a small weight (the paper: 0.5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.lattice import arc_posteriors, lattice_log_prob, pack_steps
from espnet_plugin.losses import inputs
from espnet_plugin.losses.full_sum import check_full_sum_inputs
from espnet_plugin.losses.options import FullSumOptions
from espnet_plugin.losses.reduction import check_infeasible, check_reduction, reduce_path_losses
from espnet_plugin.losses.restriction import Restriction, window_restriction


def simple_full_sum_loss(
    am: Tensor,
    lm: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    topology: str = "monotonic",
    reduction: str = "mean",
    infeasible: str = "inf",
    check: bool | None = None,
) -> Tensor:
    """Full-sum loss of the simple joint, without a [B, T, S+1, V] grid.

    Exact while ``am`` and ``lm`` agree on some symbol within about 87 nats of either's favourite
    (float32); beyond, the normaliser's product underflows and the loss is too large.

    Args:
        am: acoustic part, [B, T, V].
        lm: label part, [B, S+1, V].
        targets: labels, [B, S]; padding may hold anything.
        lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        blank: index of the blank.
        topology: ``monotonic`` or ``rnnt``.
        reduction: ``none`` [B], ``sum``, or ``mean`` over sequences.
        infeasible: as for :func:`espnet_plugin.losses.full_sum_loss`.
        check: as for :func:`espnet_plugin.losses.full_sum_loss`.

    Returns:
        Loss in nats, [B] or scalar.

    Raises:
        ValueError: shapes, dtypes, devices, lengths, labels or options do not fit.
    """
    check_reduction(reduction)
    check_infeasible(infeasible)
    FullSumOptions(blank, topology)
    blank_scores, label_scores = _simple_arcs(
        am, lm, targets, lengths, target_lengths, blank, check
    )
    losses = -lattice_log_prob(blank_scores, label_scores, lengths, target_lengths, topology)
    return reduce_path_losses(losses, reduction, infeasible)


@torch.no_grad()
def pruned_restriction(
    am: Tensor,
    lm: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    *,
    s_range: int,
    blank: int = 0,
    topology: str = "monotonic",
    check: bool | None = None,
) -> Restriction:
    """The ``s_range`` label positions of each frame that the simple joint occupies most.

    The windows start at position 0, end at S_b, never move back, and move forward by at most
    one position (``monotonic``) or ``s_range`` - 1 (``rnnt``) a frame, so that a path always
    fits through them if the sequence has frames enough for its labels.

    Args:
        am: acoustic part, [B, T, V].
        lm: label part, [B, S+1, V].
        targets: labels, [B, S]; padding may hold anything.
        lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        s_range: label positions per frame, at least 2.
        blank: index of the blank.
        topology: ``monotonic`` or ``rnnt``.
        check: as for :func:`espnet_plugin.losses.full_sum_loss`.

    Raises:
        ValueError: shapes, dtypes, devices, lengths, labels or options do not fit.
    """
    if s_range < 2:
        raise ValueError(f"s_range must be at least 2, got {s_range}")
    FullSumOptions(blank, topology)
    blank_scores, label_scores = _simple_arcs(
        am, lm, targets, lengths, target_lengths, blank, check
    )
    arcs = pack_steps(blank_scores, label_scores, lengths, target_lengths, topology)
    occupancy, by_label, _ = arc_posteriors(arcs)
    occupancy[:, :, :-1] += by_label  # [B, T, S+1]
    width = occupancy.shape[2]
    size = min(s_range, width)
    windows = occupancy.unfold(2, size, 1).sum(3)  # [B, T, S+2-size]
    jump = 1 if topology == "monotonic" else s_range - 1
    starts = _connect(windows.argmax(2), arcs.lengths, target_lengths.to(am.device), size, jump)
    return window_restriction(starts, size, width)


def _connect(
    starts: Tensor, lengths: Tensor, target_lengths: Tensor, size: int, jump: int
) -> Tensor:
    """Make window starts [B, T] rise from 0 to the end by steps of 0 .. ``jump``."""
    frame = torch.arange(starts.shape[1], device=starts.device)
    last = (target_lengths + 1 - size).clamp(min=0)[:, None]  # [B, 1]
    starts = torch.where(frame >= lengths[:, None] - 1, last, torch.minimum(starts, last))
    starts = torch.minimum(starts, frame * jump).cummax(1).values
    # Raise what comes before a jump that is too wide.
    level = (starts - frame * jump).flip(1).cummax(1).values.flip(1)
    return level + frame * jump


def _simple_arcs(
    am: Tensor,
    lm: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    check: bool | None,
) -> tuple[Tensor, Tensor]:
    """log p(blank) [B, T, S+1] and log p(label) [B, T, S] of the simple joint."""
    inputs.check_floating("am", am, 3)
    inputs.check_floating("lm", lm, 3)
    if (len(lm), lm.shape[2]) != (len(am), am.shape[2]):
        raise ValueError(f"am {tuple(am.shape)} and lm {tuple(lm.shape)} do not fit together")
    batch, frames, vocab_size = am.shape
    labels = lm.shape[1] - 1
    grid = (frames, labels + 1, vocab_size)
    check_full_sum_inputs(am, targets, lengths, target_lengths, grid, blank, check)
    with torch.autocast(am.device.type, enabled=False):
        am = inputs.without_padding(am, lengths)
        lm = inputs.without_padding(lm, target_lengths.long() + 1)
        am, lm = (x if x.dtype == torch.float64 else x.float() for x in (am, lm))
        am_peak, lm_peak = am.detach().amax(2, keepdim=True), lm.detach().amax(2, keepdim=True)
        product = (am - am_peak).exp() @ (lm - lm_peak).exp().transpose(1, 2)  # [B, T, S+1]
        # The product may underflow where the two parts contradict each other completely.
        tiny = torch.finfo(product.dtype).tiny
        normaliser = product.clamp(min=tiny).log() + am_peak + lm_peak.transpose(1, 2)
        clean = inputs.clean_targets(targets, target_lengths, (blank + 1) % vocab_size)
        am_label = am.gather(2, clean[:, None].expand(batch, frames, labels))  # [B, T, S]
        lm_label = lm[:, :-1].gather(2, clean[:, :, None]).transpose(1, 2)  # [B, 1, S]
        blank_scores = am[:, :, blank, None] + lm[:, None, :, blank] - normaliser
        return blank_scores, am_label + lm_label - normaliser[:, :, :-1]
