"""Forward and backward scores and arc posteriors in the log semiring.

Shapes: B batch, T frames, S labels, N steps, R independent recursions.

    alpha[0, 0] = 0,   alpha[n+1, u] = log( e^(alpha[n, u] + blank[n, u])
                                          + e^(alpha[n, u-1] + label[n, u-1]) )
    log P = alpha[N, S]                                          (method.md, "Symbols")

The backward scores obey the same recursion on the reversed lattice (n -> N-n, u -> S-u), so
both run in one loop over a batch of 2B. Posteriors are the gradients (docs/maths.md, section 2):

    d log P / d blank[n, u] = exp( alpha[n, u] + blank[n, u] + beta[n+1, u] - log P )
    d log P / d label[n, u] = exp( alpha[n, u] + label[n, u] + beta[n+1, u+1] - log P )
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from espnet_plugin.lattice.steps import StepArcs
from espnet_plugin.lattice.topology import cell_view

# blank [N, R, S+1], label [N, R, S], start [R, S+1] -> alpha [N+1, R, S+1]
Recursion = Callable[[Tensor, Tensor, Tensor], Tensor]


def accumulate(blank: Tensor, label: Tensor, start: Tensor) -> Tensor:
    """Forward recursion of R independent lattices.

    Args:
        blank: [N, R, S+1].
        label: [N, R, S].
        start: scores of the nodes before the first step, [R, S+1].

    Returns:
        alpha [N+1, R, S+1].
    """
    steps, rows, width = blank.shape
    alpha = blank.new_empty(steps + 1, rows, width)
    alpha[0] = start
    emitted = blank.new_empty(rows, width - 1)
    # Slices are made by three calls up front: in the loop they would cost as much as the sums.
    stay, left, right = alpha.unbind(0), alpha[:, :, :-1].unbind(0), alpha[:, :, 1:].unbind(0)
    for n, (blank_n, label_n) in enumerate(zip(blank.unbind(0), label.unbind(0), strict=True)):
        torch.add(stay[n], blank_n, out=stay[n + 1])
        torch.add(left[n], label_n, out=emitted)
        torch.logaddexp(right[n + 1], emitted, out=right[n + 1])
    return alpha


def final_scores(alpha: Tensor, target_lengths: Tensor) -> Tensor:
    """alpha[N, S_b] of each sequence, [B]."""
    return alpha[-1].gather(1, target_lengths.long()[:, None]).squeeze(1)


def start_scores(arcs: StepArcs) -> Tensor:
    """0 at label position 0, -inf elsewhere, [B, S+1]."""
    start = arcs.blank.new_full(arcs.blank.shape[1:], -math.inf)
    start[:, 0] = 0.0
    return start


def forward_scores(arcs: StepArcs, recursion: Recursion = accumulate) -> tuple[Tensor, Tensor]:
    """Forward scores alpha [N+1, B, S+1] and log P [B]."""
    alpha = recursion(arcs.blank, arcs.label, start_scores(arcs))
    return alpha, final_scores(alpha, arcs.target_lengths)


def forward_backward(
    arcs: StepArcs, recursion: Recursion = accumulate
) -> tuple[Tensor, Tensor, Tensor]:
    """Forward scores, backward scores (both [N+1, B, S+1]) and log P [B]."""
    batch, width = arcs.blank.shape[1:]
    start = start_scores(arcs)
    # The reversed lattice starts in (N, S_b), which the flip puts at position S - S_b.
    reversed_start = torch.full_like(start, -math.inf)
    reversed_start.scatter_(1, (width - 1 - arcs.target_lengths.long())[:, None], 0.0)
    both = recursion(
        torch.cat([arcs.blank, arcs.blank.flip(0, 2)], dim=1),  # [N, 2B, S+1]
        torch.cat([arcs.label, arcs.label.flip(0, 2)], dim=1),  # [N, 2B, S]
        torch.cat([start, reversed_start]),
    )
    alpha, beta = both[:, :batch], both[:, batch:].flip(0, 2)
    return alpha, beta, final_scores(alpha, arcs.target_lengths)


def arc_posteriors(
    arcs: StepArcs, recursion: Recursion = accumulate
) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior probability of every arc, and log P.

    Args:
        arcs: packed arc scores.
        recursion: :func:`accumulate` or a kernel with its contract.

    Returns:
        blank [B, T, S+1], label [B, T, S], log P [B]. A sequence without any path (log P = -inf)
        has posteriors 0, never NaN.
    """
    alpha, beta, log_prob = forward_backward(arcs, recursion)
    shift = torch.where(torch.isfinite(log_prob), log_prob, math.inf)[:, None]
    blank = (alpha[:-1] + arcs.blank).add_(beta[1:]).sub_(shift).exp_()  # [N, B, S+1]
    label = (alpha[:-1, :, :-1] + arcs.label).add_(beta[1:, :, 1:]).sub_(shift).exp_()
    blank_cells = cell_view(blank, arcs.frames, arcs.topology)  # [B, T, S+1]
    # The loop that pads a finished sequence is not an arc of the grid.
    past_end = torch.arange(arcs.frames, device=blank.device) >= arcs.lengths[:, None]
    blank_cells.masked_fill_(past_end[:, :, None], 0.0)
    return blank_cells, cell_view(label, arcs.frames, arcs.topology), log_prob
