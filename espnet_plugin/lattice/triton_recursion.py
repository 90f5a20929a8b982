"""The forward recursion as one GPU kernel instead of one launch per step.

Shapes: N steps, R independent recursions, S labels.

One program walks through all steps of one recursion and keeps a whole row of label positions in
registers. The neighbour u-1 is read back from the row just stored, hence the barrier.
Import this module only where Triton is installed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_WIDTH = 1 << 14


@triton.jit  # type: ignore[untyped-decorator]
def _recursion_kernel(  # type: ignore[no-untyped-def]
    blank_ptr, label_ptr, alpha_ptr, steps, row_stride, label_row_stride, width, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    position = tl.arange(0, BLOCK)
    inside = position < width
    has_left = inside & (position > 0)
    # Pointers advance step by step, so no offset within a step exceeds 32 bits.
    alpha = alpha_ptr + row * width + position
    blank = blank_ptr + row * width + position
    label = label_ptr + row * (width - 1) + position - 1
    for _ in range(steps):
        stay = tl.load(alpha, mask=inside, other=-float("inf")) + tl.load(
            blank, mask=inside, other=-float("inf")
        )
        emit = tl.load(alpha - 1, mask=has_left, other=-float("inf")) + tl.load(
            label, mask=has_left, other=-float("inf")
        )
        best = tl.maximum(stay, emit)
        # Two dead arcs: keep exp(-inf - -inf) from making a NaN.
        shift = tl.where(best == -float("inf"), 0.0, best)
        total = shift + tl.log(tl.exp(stay - shift) + tl.exp(emit - shift))
        alpha += row_stride
        tl.store(alpha, total, mask=inside)
        tl.debug_barrier()
        blank += row_stride
        label += label_row_stride


def accumulate(blank: Tensor, label: Tensor, start: Tensor) -> Tensor:
    """Same contract as :func:`espnet_plugin.lattice.recursion.accumulate`.

    Raises:
        ValueError: more label positions than one program can hold.
    """
    steps, rows, width = blank.shape
    if width > MAX_WIDTH:
        raise ValueError(f"{width - 1} labels exceed the Triton kernel's {MAX_WIDTH - 1}")
    blank, label = blank.contiguous(), label.contiguous()
    alpha = torch.empty((steps + 1, rows, width), dtype=blank.dtype, device=blank.device)
    alpha[0] = start
    if rows:
        block = triton.next_power_of_2(max(width, 2))
        _recursion_kernel[(rows,)](
            blank,
            label,
            alpha,
            steps,
            rows * width,
            rows * (width - 1),
            width,
            BLOCK=block,
            num_warps=max(1, min(8, block // 64)),
        )
    return alpha
