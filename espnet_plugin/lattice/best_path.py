"""Best path in the max semiring.

Shapes: B batch, T frames, S labels, N steps.

    delta[n+1, u] = max( delta[n, u] + blank[n, u], delta[n, u-1] + label[n, u-1] )

Ties prefer the blank step, i.e. the label is emitted as early as possible.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.lattice.recursion import final_scores, start_scores
from espnet_plugin.lattice.steps import StepArcs


def best_path(arcs: StepArcs) -> tuple[Tensor, Tensor]:
    """Viterbi path of each sequence.

    Args:
        arcs: packed arc scores (see :func:`espnet_plugin.lattice.pack_steps`).

    Returns:
        emits: bool [B, N], whether step n emits a label; False past a sequence's end and
            everywhere for a sequence without any path.
        score: log-score of the path, [B]; -inf where there is none.
    """
    steps, batch, width = arcs.blank.shape
    delta = start_scores(arcs)
    came_by_label = torch.zeros(steps, batch, width, dtype=torch.bool, device=delta.device)
    for n in range(steps):
        stay = delta + arcs.blank[n]
        emit = delta[:, :-1] + arcs.label[n]
        torch.gt(emit, stay[:, 1:], out=came_by_label[n, :, 1:])
        torch.maximum(stay[:, 1:], emit, out=stay[:, 1:])
        delta = stay
    score = final_scores(delta[None], arcs.target_lengths)

    position = arcs.target_lengths.long()[:, None].clone()  # [B, 1]
    emits = torch.zeros(steps, batch, dtype=torch.bool, device=delta.device)
    for n in range(steps - 1, -1, -1):
        emits[n] = came_by_label[n].gather(1, position).squeeze(1)
        position -= emits[n][:, None].long()
    return emits.T & torch.isfinite(score)[:, None], score


def frame_labels(emits: Tensor, targets: Tensor, blank: int) -> Tensor:
    """Turn a monotonic path into one symbol per frame.

    Args:
        emits: [B, T] from :func:`best_path` of a ``monotonic`` lattice.
        targets: [B, S].
        blank: index of the blank.

    Returns:
        [B, T]: the label emitted at the frame, or ``blank``.
    """
    if targets.shape[1] == 0:
        return torch.full_like(emits, blank, dtype=targets.dtype)
    index = (emits.long().cumsum(1) - 1).clamp_(0, targets.shape[1] - 1)  # [B, T]
    return torch.where(emits, targets.gather(1, index), blank)
