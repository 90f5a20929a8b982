"""Autograd function of the fused joint network and full-sum loss.

Shapes: B batch, T frames, S labels, J joint size, V vocabulary with blank, C cells.

Forward: arc scores of all cells that can lie on a path, then the recursion, whose posteriors
are kept (two numbers a cell). Backward: the logits are computed again, and only for cells
whose occupancy matters. What is left out is bounded: a cell counts as unoccupied when its
posterior is below eps / (S_b + 1), so a frame, whose posteriors sum to at least 1, loses less
than eps = 2^-24 of its gradient, i.e. less than its float32 rounding (docs/maths.md, section 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.lattice import arc_posteriors, forward_scores, pack_steps
from espnet_plugin.lattice.once import only_once
from espnet_plugin.losses.engines.dropout_mask import DropoutMask
from espnet_plugin.losses.engines.engine import Engine
from espnet_plugin.losses.engines.hidden_layer import TorchHidden
from espnet_plugin.losses.engines.joint_inputs import Activation, JointInputs
from espnet_plugin.losses.engines.packed_joint import PackedJoint
from espnet_plugin.losses.options import FullSumOptions


@dataclass(frozen=True)
class FusedOptions:
    """Options of the fused loss beside :class:`FullSumOptions`.

    Attributes:
        activation: of the joint network's hidden layer; None stands for tanh.
        dropout: probability for the hidden layer, 0 outside training.
        dtype: of the matrix products.
        memory_budget: bytes for one chunk's temporaries, or None.
        negligible: occupancy, relative to 1 / (S_b + 1), below which a cell adds nothing to
            the gradient.
        engine: plain torch or kernels.
    """

    activation: Activation | None
    dropout: float
    dtype: torch.dtype
    memory_budget: int | None
    negligible: float
    engine: Engine

    def draw_dropout(self, encoder: Tensor, prediction: Tensor) -> DropoutMask | None:
        """A mask for these inputs [B, T, J] and [B, S+1, J], or None outside training."""
        if self.dropout == 0.0:
            return None
        rows = (encoder[..., 0].numel(), prediction[..., 0].numel())
        return DropoutMask(self.dropout, *rows, encoder.shape[2], encoder.device)


def reachable_cells(
    lengths: Tensor, target_lengths: Tensor, frames: int, width: int, topology: str
) -> Tensor:
    """Cells (t, u) that lie on some path, bool [B, T, S+1]."""
    device = lengths.device
    frame = torch.arange(frames, device=device)[:, None]  # [T, 1]
    label = torch.arange(width, device=device)  # [S+1]
    ends, labels = lengths[:, None, None], target_lengths[:, None, None]  # [B, 1, 1]
    cells = (frame < ends) & (label <= labels)  # [B, T, S+1]
    if topology == "monotonic":
        cells &= (label <= frame) & (labels - label <= ends - frame)
    return cells


def packed_joint(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    dropout: DropoutMask | None,
    blank: int,
    fused: FusedOptions,
) -> PackedJoint:
    """The joint of (encoder, prediction, weight, bias, labels)."""
    inputs = JointInputs(
        *tensors,
        blank=blank,
        activation=fused.activation,
        dropout=dropout,
        dtype=fused.dtype,
    )
    # The kernels know tanh only.
    make_hidden = fused.engine.hidden if fused.activation is None else TorchHidden
    return PackedJoint(
        inputs, fused.engine.rows, make_hidden, fused.memory_budget, threads=fused.engine.threads
    )


def _arc_grids(joint: PackedJoint, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Arc scores of the cells marked in bool [B, T, S+1], as grids; -inf elsewhere."""
    listed = cells.view(-1).nonzero().squeeze(1)  # [C]
    grids = torch.full((2, *cells.shape), -math.inf, dtype=joint.sum_dtype, device=cells.device)
    for grid, scores in zip(grids, joint.arc_scores(listed), strict=True):
        grid.view(-1)[listed] = scores
    return grids[0], grids[1]


class FusedFullSum(torch.autograd.Function):
    """-log P from projected encoder and prediction outputs and the joint's last layer."""

    @staticmethod
    def forward(
        ctx: Any,
        encoder: Tensor,
        prediction: Tensor,
        weight: Tensor,
        bias: Tensor,
        labels: Tensor,
        lengths: Tensor,
        target_lengths: Tensor,
        options: FullSumOptions,
        fused: FusedOptions,
    ) -> Tensor:
        frames, width = encoder.shape[1], prediction.shape[1]
        dropout = fused.draw_dropout(encoder, prediction)
        tensors = (encoder, prediction, weight, bias, labels)
        joint = packed_joint(tensors, dropout, options.blank, fused)
        lengths = lengths.to(encoder.device, torch.int64)  # sums of small integers wrap around
        target_lengths = target_lengths.to(encoder.device, torch.int64)
        cells = reachable_cells(lengths, target_lengths, frames, width, options.topology)
        if options.restriction is not None:
            cells &= options.restriction.cells
        blank, label = _arc_grids(joint, cells)
        blank, label = options.alter(blank, label[:, :, :-1], lengths)
        arcs = pack_steps(blank, label, lengths, target_lengths, options.topology)
        if not any(ctx.needs_input_grad):
            return -forward_scores(arcs, fused.engine.recursion)[1].to(joint.sum_dtype)
        blank_posterior, label_posterior, log_prob = arc_posteriors(arcs, fused.engine.recursion)
        label_posterior *= 1.0 + options.fastemit_lambda
        posteriors = torch.zeros((2, *cells.shape), dtype=joint.sum_dtype, device=encoder.device)
        posteriors[0] = blank_posterior
        posteriors[1, :, :, :-1] = label_posterior
        ctx.save_for_backward(*tensors, posteriors, target_lengths)
        ctx.dropout, ctx.options, ctx.fused = dropout, options, fused
        return -log_prob.to(joint.sum_dtype)

    @staticmethod
    @only_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        encoder, prediction, weight, bias, labels, posteriors, target_lengths = ctx.saved_tensors
        tensors = (encoder, prediction, weight, bias, labels)
        joint = packed_joint(tensors, ctx.dropout, ctx.options.blank, ctx.fused)
        floor = ctx.fused.negligible / (target_lengths + 1).to(posteriors.dtype)
        # NaN takes part, so that a broken model gives a NaN gradient, by which ESPnet's Trainer and
        # gradient scalers skip the update, and not one of zero.
        cells = ~(posteriors.sum(0) <= floor[:, None, None])  # [B, T, S+1]
        listed = cells.view(-1).nonzero().squeeze(1)  # [C]
        sequence = torch.div(listed, cells[0].numel(), rounding_mode="floor")
        weights = posteriors.view(2, -1)[:, listed] * -grad.to(posteriors.dtype)[sequence]
        grads = joint.gradients(listed, weights[0], weights[1])
        return (*grads.like(tensors), None, None, None, None, None)
