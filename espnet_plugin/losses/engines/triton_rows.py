"""Row-wise work on logits as Triton kernels: one read forward, one read and write backward.

Shapes: R cells of one chunk, V vocabulary with blank.

Logits may be half precision; sums are made in float32 (float64 for float64 logits). Row offsets
are 64-bit, so that more than 2^31 logits are addressed correctly.
Import this module only where Triton is installed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from espnet_plugin.losses.engines.rows import sum_dtype

_MAX_BLOCK = 4096


@triton.jit  # type: ignore[untyped-decorator]
def _row_statistics(row_ptr, vocab_size, ACC: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Maximum and log-sum-exp (relative to it) of a row, lane by lane, then across lanes."""
    lanes = tl.arange(0, BLOCK)
    largest = tl.full([BLOCK], -float("inf"), ACC)
    total = tl.zeros([BLOCK], ACC)
    for first in range(0, vocab_size, BLOCK):
        inside = first + lanes < vocab_size
        z = tl.load(row_ptr + first + lanes, mask=inside, other=-float("inf")).to(ACC)
        larger = tl.maximum(largest, z)
        shift = tl.where(larger == -float("inf"), 0.0, larger)
        total = total * tl.exp(largest - shift) + tl.exp(z - shift)
        largest = larger
    peak = tl.max(largest, 0)
    shift = tl.where(peak == -float("inf"), 0.0, peak)
    return shift + tl.log(tl.sum(total * tl.exp(largest - shift), 0))


@triton.jit  # type: ignore[untyped-decorator]
def _arc_scores_kernel(  # type: ignore[no-untyped-def]
    logits_ptr,
    labels_ptr,
    blank_out,
    label_out,
    blank,
    vocab_size,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    row_ptr = logits_ptr + row * vocab_size
    lse = _row_statistics(row_ptr, vocab_size, ACC, BLOCK)
    label = tl.load(labels_ptr + row)
    tl.store(blank_out + row, tl.load(row_ptr + blank).to(ACC) - lse)
    tl.store(label_out + row, tl.load(row_ptr + label).to(ACC) - lse)


@triton.jit  # type: ignore[untyped-decorator]
def _slopes_kernel(  # type: ignore[no-untyped-def]
    logits_ptr,
    labels_ptr,
    w_blank_ptr,
    w_label_ptr,
    slope_ptr,
    blank,
    vocab_size,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    row_ptr = logits_ptr + row * vocab_size
    out_ptr = slope_ptr + row * vocab_size
    w_blank = tl.load(w_blank_ptr + row).to(ACC)
    w_label = tl.load(w_label_ptr + row).to(ACC)
    total = w_blank + w_label
    lanes = tl.arange(0, BLOCK)
    if total == 0.0:  # nothing to learn here; the logits may be padding
        for first in range(0, vocab_size, BLOCK):
            inside = first + lanes < vocab_size
            zero = tl.zeros([BLOCK], ACC).to(slope_ptr.dtype.element_ty)
            tl.store(out_ptr + first + lanes, zero, mask=inside)
    else:
        lse = _row_statistics(row_ptr, vocab_size, ACC, BLOCK)
        label = tl.load(labels_ptr + row)
        for first in range(0, vocab_size, BLOCK):
            symbol = first + lanes
            inside = symbol < vocab_size
            z = tl.load(row_ptr + symbol, mask=inside, other=-float("inf")).to(ACC)
            slope = -total * tl.exp(z - lse)
            slope += tl.where(symbol == blank, w_blank, 0.0)
            slope += tl.where(symbol == label, w_label, 0.0)
            tl.store(out_ptr + symbol, slope.to(slope_ptr.dtype.element_ty), mask=inside)


class TritonRows:
    """The engine of :class:`espnet_plugin.losses.engines.rows.RowEngine` on CUDA devices."""

    def arc_scores(
        self, logits: Tensor, labels: Tensor, blank: int, *, overwrite: bool = False
    ) -> tuple[Tensor, Tensor]:
        """See :class:`espnet_plugin.losses.engines.rows.RowEngine`."""
        rows, vocab_size = logits.shape
        logits, labels = logits.contiguous(), labels.contiguous()
        blank_out = torch.empty(rows, dtype=sum_dtype(logits), device=logits.device)
        label_out = torch.empty_like(blank_out)
        if rows:
            _arc_scores_kernel[(rows,)](
                logits, labels, blank_out, label_out, blank, vocab_size, **_launch(logits)
            )
        return blank_out, label_out

    def slopes(
        self,
        logits: Tensor,
        labels: Tensor,
        blank: int,
        w_blank: Tensor,
        w_label: Tensor,
        *,
        overwrite: bool = False,
    ) -> Tensor:
        """See :class:`espnet_plugin.losses.engines.rows.RowEngine`."""
        rows, vocab_size = logits.shape
        logits, labels = logits.contiguous(), labels.contiguous()
        weights = (w_blank.contiguous(), w_label.contiguous())
        # Every program reads an element before it writes it, so the logits may be the output.
        slope = logits if overwrite else torch.empty_like(logits)
        if rows:
            _slopes_kernel[(rows,)](
                logits, labels, *weights, slope, blank, vocab_size, **_launch(logits)
            )
        return slope


def _launch(logits: Tensor) -> dict[str, object]:
    """Compile-time arguments of the row kernels."""
    block = min(_MAX_BLOCK, triton.next_power_of_2(logits.shape[1]))
    acc = tl.float64 if sum_dtype(logits) == torch.float64 else tl.float32
    return {"ACC": acc, "BLOCK": block, "num_warps": max(1, min(8, block // 256))}
