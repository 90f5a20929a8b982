"""Full-sum loss of materialised logits with an analytic gradient, on either engine.

Shapes: B batch, T frames, S labels, V vocabulary with blank, R = B*T*(S+1) cells.

Rows are processed in chunks, so that the softmax never exists as a second [B, T, S+1, V] tensor
beside the gradient itself (docs/maths.md, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.lattice import arc_posteriors, forward_scores, pack_steps
from espnet_plugin.lattice.once import only_once
from espnet_plugin.losses.engines.engine import Engine
from espnet_plugin.losses.engines.rows import sum_dtype
from espnet_plugin.losses.options import FullSumOptions

_CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 30}


def row_chunks(logits: Tensor) -> Iterator[slice]:
    """Slices of the rows of [R, V] that are worked on at a time."""
    rows, vocab_size = logits.shape
    step = max(1, _CHUNK_ELEMENTS.get(logits.device.type, 1 << 22) // vocab_size)
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def row_labels(targets: Tensor, frames: int, blank: int) -> Tensor:
    """Label that follows each cell (the blank after the last one), int64 [R]."""
    padded = torch.nn.functional.pad(targets, (0, 1), value=blank)  # [B, S+1]
    return padded[:, None].expand(-1, frames, -1).reshape(-1)


class GridFullSum(torch.autograd.Function):
    """-log P; keeps the logits and the arc posteriors, two numbers a cell."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        targets: Tensor,
        lengths: Tensor,
        target_lengths: Tensor,
        options: FullSumOptions,
        engine: Engine,
    ) -> Tensor:
        batch, frames, width, vocab_size = logits.shape
        rows = logits.reshape(-1, vocab_size)  # [R, V]
        labels = row_labels(targets, frames, options.blank)
        scores = torch.empty((2, len(rows)), dtype=sum_dtype(logits), device=logits.device)
        for part in row_chunks(rows):
            arcs_of_rows = engine.rows.arc_scores(rows[part], labels[part], options.blank)
            scores[0, part], scores[1, part] = arcs_of_rows
        blank, label = scores.view(2, batch, frames, width)
        blank, label = options.alter(blank, label[:, :, :-1], lengths)
        arcs = pack_steps(blank, label, lengths, target_lengths, options.topology)
        if not ctx.needs_input_grad[0]:
            return -forward_scores(arcs, engine.recursion)[1].to(scores.dtype)
        blank_posterior, label_posterior, log_prob = arc_posteriors(arcs, engine.recursion)
        label_posterior *= 1.0 + options.fastemit_lambda
        posteriors = torch.zeros_like(scores).view(2, batch, frames, width)
        posteriors[0] = blank_posterior
        posteriors[1, :, :, :-1] = label_posterior
        ctx.save_for_backward(logits, labels, posteriors)
        ctx.blank, ctx.engine = options.blank, engine
        return -log_prob.to(scores.dtype)

    @staticmethod
    @only_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        logits, labels, posteriors = ctx.saved_tensors
        rows = logits.reshape(-1, logits.shape[-1])  # [R, V]
        w_blank, w_label = (posteriors * -grad[:, None, None]).view(2, -1)
        result = torch.empty_like(rows, memory_format=torch.contiguous_format)
        for part in row_chunks(rows):
            result[part] = ctx.engine.rows.slopes(
                rows[part], labels[part], ctx.blank, w_blank[part], w_label[part]
            )
        return result.view(logits.shape), None, None, None, None, None


def grid_full_sum(
    logits: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    options: FullSumOptions,
    engine: Engine,
) -> Tensor:
    """-log P, [B]; contract of :mod:`espnet_plugin.losses.backends`."""
    losses: Tensor = GridFullSum.apply(logits, targets, lengths, target_lengths, options, engine)
    return losses
