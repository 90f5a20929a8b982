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
from torch.autograd.function import once_differentiable

from espnet_plugin.lattice import arc_posteriors, forward_scores, pack_steps
from espnet_plugin.losses.dropout_mask import DropoutMask
from espnet_plugin.losses.options import FullSumOptions
from espnet_plugin.losses.packed_joint import Activation, JointInputs, PackedJoint


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
    """

    activation: Activation | None
    dropout: float
    dtype: torch.dtype
    memory_budget: int | None
    negligible: float


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
        batch, frames, size = encoder.shape
        width = prediction.shape[1]
        dropout = None
        if fused.dropout > 0.0:
            rows = (batch * frames, batch * width)
            dropout = DropoutMask(fused.dropout, *rows, size, encoder.device)
        joint = PackedJoint(
            JointInputs(
                encoder,
                prediction,
                weight,
                bias,
                labels,
                options.blank,
                fused.activation,
                dropout,
                fused.dtype,
            ),
            fused.memory_budget,
        )
        lengths, target_lengths = lengths.to(encoder.device), target_lengths.to(encoder.device)
        reachable = reachable_cells(lengths, target_lengths, frames, width, options.topology)
        cells = reachable.view(-1).nonzero().squeeze(1)  # [C]
        grids = []
        for scores in joint.arc_scores(cells):
            grid = torch.full_like(reachable, -math.inf, dtype=scores.dtype)
            grid.view(-1)[cells] = scores
            grids.append(grid)
        blank, label = grids[0], options.add_delay_penalty(grids[1][:, :, :-1], lengths)
        arcs = pack_steps(blank, label, lengths, target_lengths, options.topology)
        if not any(ctx.needs_input_grad):
            return -forward_scores(arcs)[1].to(joint.sum_dtype)
        blank_posterior, label_posterior, log_prob = arc_posteriors(arcs)
        label_posterior *= 1.0 + options.fastemit_lambda
        grids[0].copy_(blank_posterior)
        grids[1].zero_()[:, :, :-1] = label_posterior
        ctx.save_for_backward(*grids, target_lengths)
        ctx.joint, ctx.negligible = joint, fused.negligible
        return -log_prob.to(joint.sum_dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        blank, label, target_lengths = ctx.saved_tensors
        joint: PackedJoint = ctx.joint
        inputs = joint.inputs
        floor = ctx.negligible / (target_lengths + 1).to(blank.dtype)[:, None, None]
        cells = (blank + label > floor).view(-1).nonzero().squeeze(1)  # [C]
        sequence = torch.div(cells, blank[0].numel(), rounding_mode="floor")
        weight = -grad.to(blank.dtype).index_select(0, sequence)  # [C]
        grads = joint.gradients(cells, *(weight * x.view(-1)[cells] for x in (blank, label)))
        vocab_size = inputs.weight.shape[0]
        results = (
            grads.encoder.view(inputs.encoder.shape).to(inputs.encoder.dtype),
            grads.prediction.view(inputs.prediction.shape).to(inputs.prediction.dtype),
            grads.weight[:vocab_size].to(inputs.weight.dtype),
            grads.bias[:vocab_size].to(inputs.bias.dtype),
        )
        return (*results, None, None, None, None, None)
