"""Arc scores of a batch, laid out step by step for the recursions.

Shapes: B batch, T frames, S labels, N steps (see topology.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_plugin.lattice.topology import cell_view, check_topology, max_steps, step_counts


@dataclass(frozen=True)
class StepArcs:
    """Arc scores in step-major order; -inf where a sequence has no arc.

    Past a sequence's last step its final node keeps a blank loop of score 0, so that ragged
    batches need no special case: every path ends in (N, S_b).
    """

    blank: Tensor  # [N, B, S+1], score of (n, u) -> (n+1, u)
    label: Tensor  # [N, B, S], score of (n, u) -> (n+1, u+1)
    lengths: Tensor  # [B]
    target_lengths: Tensor  # [B]
    frames: int
    topology: str


# Path scores reach thousands of nats, where float32 would leave posteriors with errors of 1e-3.
# The lattice has no vocabulary axis, so the wider type costs next to nothing.
ACCUMULATION_DTYPE = torch.float64


def pack_steps(
    blank: Tensor, label: Tensor, lengths: Tensor, target_lengths: Tensor, topology: str
) -> StepArcs:
    """Lay out arc scores step by step and mask everything outside each sequence.

    Args:
        blank: log p(blank | t, u), [B, T, S+1].
        label: log p(a_{u+1} | t, u), [B, T, S].
        lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        topology: ``monotonic`` or ``rnnt``.

    Returns:
        The packed arcs, in ``ACCUMULATION_DTYPE``.
    """
    check_topology(topology)
    batch, frames, width = blank.shape
    assert label.shape == (batch, frames, width - 1), (blank.shape, label.shape)
    device, dtype = blank.device, ACCUMULATION_DTYPE
    lengths = lengths.to(device, torch.int64)  # sums of small integers wrap around
    target_lengths = target_lengths.to(device, torch.int64)
    steps = max_steps(frames, width - 1, topology)
    position = torch.arange(width, device=device)
    in_frames = torch.arange(frames, device=device) < lengths[:, None]  # [B, T]
    in_labels = position <= target_lengths[:, None]  # [B, S+1]

    blank_steps = torch.full((steps, batch, width), -math.inf, dtype=dtype, device=device)
    label_steps = torch.full((steps, batch, width - 1), -math.inf, dtype=dtype, device=device)
    valid = in_frames[:, :, None] & in_labels[:, None, :]  # [B, T, S+1]
    cell_view(blank_steps, frames, topology).copy_(blank.masked_fill(~valid, -math.inf))
    cell_view(label_steps, frames, topology).copy_(
        label.masked_fill(~valid[:, :, 1:], -math.inf)  # a label arc leads to u + 1 <= S_b
    )
    ends = step_counts(lengths, target_lengths, topology)
    finished = torch.arange(steps, device=device)[:, None] >= ends  # [N, B]
    at_end = position == target_lengths[:, None]  # [B, S+1]
    blank_steps.masked_fill_(finished[:, :, None] & at_end, 0.0)
    return StepArcs(blank_steps, label_steps, lengths, target_lengths, frames, topology)
