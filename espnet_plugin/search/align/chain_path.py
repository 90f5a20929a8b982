"""Best path through chains of states that each last at least a frame.

State n follows itself, state n - 1, or a state before, ``jump[n]``: the states between may be left
out together, as a pause between two words. All transitions cost the same.

    delta[t, n] = score[t, n] + max( delta[t-1, n], delta[t-1, n-1], delta[t-1, jump[n]] )

Shapes: B chains, T frames, N states.
"""

from __future__ import annotations

import torch
from torch import Tensor

NO_JUMP = -1
#: As `jump`: a path may begin here, as it may in state 0.
BEGIN = -2
_NEVER = -1e30


def chain_path(
    scores: Tensor, jump: Tensor, last: Tensor, frames: Tensor, states: Tensor
) -> Tensor:
    """State of every frame on the best path of each chain.

    Args:
        scores: [B, T, N], of each state in each frame; padding is ignored.
        jump: [B, N], the other state that may come before each, `NO_JUMP` or `BEGIN`.
        last: [B], the first state that a path may end in; it ends in ``last`` or ``states - 1``.
        frames, states: [B], lengths.

    Returns:
        [B, T]; -1 past the end, and everywhere where no path fits into the frames.
    """
    batch, steps, width = scores.shape
    if batch == 0 or steps == 0 or width == 0:
        return jump.new_full((batch, steps), -1)
    inside = torch.arange(width, device=scores.device) < states[:, None]  # [B, N]
    begins = (jump == BEGIN) & inside
    begins[:, 0] = states > 0
    delta = scores[:, 0].masked_fill(~begins, _NEVER)  # [B, N]
    source = jump.clamp(min=0)
    back = torch.zeros(steps, batch, width, dtype=torch.int8, device=scores.device)
    for t in range(1, steps):
        step = torch.full_like(delta, _NEVER)
        step[:, 1:] = delta[:, :-1]
        jumped = delta.gather(1, source).masked_fill(jump < 0, _NEVER)
        best, back[t] = _largest(delta, step, jumped)
        moved = (best + scores[:, t]).masked_fill(~inside, _NEVER)
        delta = torch.where((t < frames)[:, None], moved, delta)
    return _trace(delta, back, jump, last, frames, states)


def _largest(stay: Tensor, step: Tensor, jumped: Tensor) -> tuple[Tensor, Tensor]:
    """Best predecessor [B, N] and which it is: 0, 1 or 2 in the order of the arguments."""
    best = torch.maximum(stay, step)
    which = (step > stay).to(torch.int8)
    which = which.masked_fill(jumped > best, 2)
    return torch.maximum(best, jumped), which


def _trace(
    delta: Tensor, back: Tensor, jump: Tensor, last: Tensor, frames: Tensor, states: Tensor
) -> Tensor:
    steps, batch, _ = back.shape
    rows = torch.arange(batch, device=delta.device)
    end = (states - 1).clamp(min=0)
    other = last.clamp(min=0)
    state = torch.where(delta[rows, other] > delta[rows, end], other, end)  # [B]
    possible = (delta[rows, state] > _NEVER / 2) & (frames > 0) & (states > 0)
    path = jump.new_full((batch, steps), -1)
    for t in range(steps - 1, -1, -1):
        here = possible & (t < frames)
        path[:, t] = torch.where(here, state, -1)
        which = back[t, rows, state]
        before = torch.where(which == 2, jump[rows, state], state - which)
        state = torch.where(here, before.clamp(min=0), state)
    return path
