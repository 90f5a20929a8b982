"""From materialised logits to arc scores and back: log-softmax, gather, and their gradient.

Shapes: B batch, T frames, S labels, V vocabulary with blank, R = B*T*(S+1) cells.

    blank(t, u) = z[t, u, blank] - lse(t, u),   label(t, u) = z[t, u, a_{u+1}] - lse(t, u)

With g_blank, g_label the gradients of the loss with respect to the arc scores, that of the
logits is g_blank * 1[v = blank] + g_label * 1[v = a_{u+1}] - (g_blank + g_label) * softmax(z)_v
(docs/maths.md, section 3). Rows are processed in chunks that stay in the cache, so that the
softmax never exists as a second [B, T, S+1, V] tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 27}


def compute_dtype(scores: Tensor) -> torch.dtype:
    """float64 stays, everything else is computed in float32."""
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def rows_per_chunk(vocab_size: int, device: torch.device) -> int:
    """Rows of [R, V] that are worked on at a time."""
    return max(1, _CHUNK_ELEMENTS.get(device.type, 1 << 22) // vocab_size)


def log_sum_exp(logits: Tensor) -> Tensor:
    """log sum_v exp z_v of every cell, [..., V] -> [...], without a full-size temporary."""
    vocab_size = logits.shape[-1]
    rows = logits.reshape(-1, vocab_size)  # [R, V]
    out = torch.empty(rows.shape[0], dtype=compute_dtype(logits), device=logits.device)
    step = rows_per_chunk(vocab_size, logits.device)
    for first in range(0, rows.shape[0], step):
        torch.logsumexp(rows[first : first + step].to(out.dtype), 1, out=out[first : first + step])
    return out.view(logits.shape[:-1])


def gather_arcs(logits: Tensor, lse: Tensor, targets: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Arc scores of a grid of logits.

    Args:
        logits: [B, T, S+1, V].
        lse: their log-sum-exp, [B, T, S+1].
        targets: int64 [B, S], valid indices everywhere.
        blank: index of the blank.

    Returns:
        blank scores [B, T, S+1] and label scores [B, T, S], in ``lse``'s dtype.
    """
    batch, frames, width = lse.shape
    index = targets[:, None, :, None].expand(batch, frames, width - 1, 1)
    blank_scores = logits[..., blank].to(lse.dtype) - lse
    label_scores = logits[:, :, :-1].gather(3, index).squeeze(3).to(lse.dtype) - lse[:, :, :-1]
    return blank_scores, label_scores


def scatter_arc_grads(
    logits: Tensor, lse: Tensor, targets: Tensor, blank: int, grad_blank: Tensor, grad_label: Tensor
) -> Tensor:
    """Gradient of the logits from that of the arc scores (the formula above).

    Args:
        logits: [B, T, S+1, V].
        lse: [B, T, S+1].
        targets: int64 [B, S], valid indices everywhere.
        blank: index of the blank.
        grad_blank: [B, T, S+1].
        grad_label: [B, T, S].

    Returns:
        [B, T, S+1, V] in the dtype of ``logits``; exactly 0 in cells of gradient 0, whatever
        their logits hold (padding may be NaN).
    """
    vocab_size = logits.shape[-1]
    rows = logits.reshape(-1, vocab_size)  # [R, V]
    total = grad_blank.clone(memory_format=torch.contiguous_format)
    total[:, :, :-1] += grad_label
    total_rows, lse_rows = total.reshape(-1, 1), lse.reshape(-1, 1)
    # Arc gradients have one sign, so a total of 0 means that both are 0.
    unused = total_rows == 0
    grad = torch.empty_like(rows)
    step = rows_per_chunk(vocab_size, logits.device)
    for first in range(0, rows.shape[0], step):
        chunk = slice(first, first + step)
        part = torch.sub(rows[chunk], lse_rows[chunk]).exp_().mul_(total_rows[chunk]).neg_()
        grad[chunk] = part.masked_fill_(unused[chunk], 0.0)
    grad = grad.view(logits.shape)
    grad[..., blank] += grad_blank.to(grad.dtype)
    index = targets[:, None, :, None].expand(*grad_label.shape, 1)
    grad[:, :, :-1].scatter_add_(3, index, grad_label.to(grad.dtype).unsqueeze(3))
    return grad
