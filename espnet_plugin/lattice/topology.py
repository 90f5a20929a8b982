"""The two alignment topologies and their common shape as a walk of diagonal steps.

Shapes: B batch, T frames, S labels (S+1 label positions), N steps.

``monotonic``: every step consumes a frame and emits blank or one label, so N = T.
``rnnt``: a label step stays on its frame, a blank step consumes it, so N = T + S.

Node (n, u) is "after n steps, u labels emitted". With frame t = n (monotonic) or
t = n - u (rnnt), both topologies obey the *same* recursion over n, and differ only in which
cell (t, u) of the score grid a step reads:

    alpha[n+1, u] = alpha[n, u] + blank(t, u)  (+)  alpha[n, u-1] + label(t, u-1)

That is why everything else in this package is written once (docs/maths.md, section 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

TOPOLOGIES = ("monotonic", "rnnt")


def check_topology(topology: str) -> None:
    """Raise if ``topology`` is not one of :data:`TOPOLOGIES`.

    Raises:
        ValueError: naming the value and the choices.
    """
    if topology not in TOPOLOGIES:
        raise ValueError(f"topology must be one of {TOPOLOGIES}, got {topology!r}")


def max_steps(frames: int, labels: int, topology: str) -> int:
    """Number of steps N of a grid with ``frames`` frames and ``labels`` labels."""
    return frames if topology == "monotonic" else frames + labels


def step_counts(lengths: Tensor, target_lengths: Tensor, topology: str) -> Tensor:
    """Steps of each sequence's complete path, [B]."""
    return lengths if topology == "monotonic" else lengths + target_lengths


def is_feasible(lengths: Tensor, target_lengths: Tensor, topology: str) -> Tensor:
    """Which sequences have any path at all, bool [B] (monotonic: S <= T)."""
    if topology == "monotonic":
        return target_lengths <= lengths
    return torch.ones_like(lengths, dtype=torch.bool)


def cell_view(steps: Tensor, frames: int, topology: str) -> Tensor:
    """View a step-major buffer as the score grid, without copying.

    Args:
        steps: contiguous buffer [N, B, U].
        frames: T.
        topology: decides the frame a step reads.

    Returns:
        View [B, T, U] whose element (b, t, u) is the buffer's (t, b, u) for ``monotonic`` and
        (t + u, b, u) for ``rnnt``; writing to it writes to the buffer.
    """
    assert steps.is_contiguous()
    batch, width = steps.shape[1:]
    frame_stride = batch * width
    label_stride = 1 if topology == "monotonic" else frame_stride + 1
    return steps.as_strided((batch, frames, width), (width, frame_stride, label_stride))
