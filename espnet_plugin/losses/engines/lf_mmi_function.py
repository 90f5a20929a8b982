"""Autograd function of the joint network and lattice-free MMI.

Shapes: B batch, T frames, S labels, J joint size, V vocabulary with blank, C cells.

A cell is a frame and a context, the last label. Forward: log-probabilities of all cells, then both
recursions, and from their posteriors the gradient of the logits, in the place of the
log-probabilities. Of these rows, those of cells whose occupancy matters are kept. Backward: what
comes before the logits, for these cells (docs/maths.md, section 7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.lattice import arc_posteriors, forward_scores, pack_steps
from espnet_plugin.lattice.label_contexts import LabelContexts
from espnet_plugin.lattice.once import only_once
from espnet_plugin.lattice.steps import StepArcs
from espnet_plugin.losses.engines.fused_function import FusedOptions, packed_joint
from espnet_plugin.losses.engines.packed_joint import PackedJoint


@dataclass(frozen=True)
class Reference:
    """What the sum over everything is compared with.

    Attributes:
        history: the blank and the labels, which are the contexts on its paths, int64 [B, S+1].
        lengths: frames of each sequence, int64 [B].
        target_lengths: labels, int64 [B].
        blank: index of the blank.
    """

    history: Tensor
    lengths: Tensor
    target_lengths: Tensor
    blank: int

    def columns(self, size: int) -> tuple[Tensor, Tensor]:
        """Places of its blank arcs [B, S+1] and label arcs [B, S] in a frame's V * V."""
        first = self.history * size
        return first + self.blank, first[:, :-1] + self.history[:, 1:]

    def arcs(self, log_probs: Tensor, scale: float) -> StepArcs:
        """Its own lattice, from log_probs [B, T, V, V]."""
        batch, frames, size, _ = log_probs.shape
        blank, label = (
            scale * log_probs.flatten(2).gather(2, index[:, None].expand(batch, frames, -1))
            for index in self.columns(size)
        )
        return pack_steps(blank, label, self.lengths, self.target_lengths, "monotonic")

    def language_model(self, lm: Tensor) -> Tensor:
        """Its score with the end [B], from lm [V, V + 1]."""
        steps = lm[self.history[:, :-1], self.history[:, 1:]]  # [B, S]
        positions = torch.arange(steps.shape[1], device=steps.device)
        inside = positions < self.target_lengths[:, None]
        last = self.history.gather(1, self.target_lengths[:, None]).squeeze(1)  # [B]
        return steps.masked_fill(~inside, 0.0).sum(1) + lm[last, -1]


class LFMMI(torch.autograd.Function):
    """The loss from projected encoder outputs and contexts, and the joint's last layer."""

    @staticmethod
    def forward(
        ctx: Any,
        encoder: Tensor,
        contexts: Tensor,
        weight: Tensor,
        bias: Tensor,
        reference: Reference,
        lm: Tensor,
        scale: float,
        fused: FusedOptions,
    ) -> Tensor:
        batch, frames = encoder.shape[:2]
        size = len(weight)
        ctx.dropout, ctx.blank = fused.draw_dropout(encoder, contexts), reference.blank
        ctx.fused = fused
        tensors = (encoder, contexts, weight, bias)
        joint = _joint(tensors, ctx)
        listed = _reachable(reference, frames, size).view(-1).nonzero().squeeze(1)  # [C]
        log_probs = torch.full(
            (batch, frames, size, size), -math.inf, dtype=joint.sum_dtype, device=encoder.device
        )
        joint.log_probs(listed, log_probs.view(-1, size))
        everything = LabelContexts(log_probs, lm, reference.lengths, reference.blank, scale)
        shares, total = everything.forward()
        arcs = reference.arcs(log_probs, scale)
        spoken = reference.language_model(lm.to(total.dtype))
        if any(ctx.needs_input_grad):
            *posteriors, log_prob = arc_posteriors(arcs)
            impossible = torch.isneginf(log_prob)
            occupancy = _slopes(
                log_probs, everything.posteriors(shares), posteriors, reference, impossible, scale
            )
            # NaN takes part, as in `FusedFullSum`.
            kept = listed[~(occupancy.view(-1)[listed] <= fused.negligible / size)]
            ctx.save_for_backward(*tensors, kept, log_probs.view(-1, size)[kept])
        else:
            log_prob = forward_scores(arcs)[1]
            impossible = torch.isneginf(log_prob)
        # Not inf - inf: the sum over everything may be 0 as well.
        losses = (total - log_prob - spoken).masked_fill(impossible, math.inf)
        return losses.to(joint.sum_dtype)

    @staticmethod
    @only_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, cells, slopes = ctx.saved_tensors
        encoder, contexts = tensors[:2]
        sequence = torch.div(
            cells, encoder.shape[1] * contexts.shape[1], rounding_mode="floor"
        )  # [C]
        slopes = slopes * grad.to(slopes.dtype)[sequence, None]
        grads = _joint(tuple(tensors), ctx).gradients_of_slopes(cells, slopes)
        return (*grads.like(tensors), None, None, None, None)


def _joint(tensors: tuple[Tensor, ...], ctx: Any) -> PackedJoint:
    encoder, contexts, weight, bias = tensors
    # No cell has a label of its own here, and none is asked for.
    labels = torch.zeros(contexts.shape[:2], dtype=torch.int64, device=contexts.device)
    return packed_joint(
        (encoder, contexts, weight, bias, labels), ctx.dropout, ctx.blank, ctx.fused
    )


def _reachable(reference: Reference, frames: int, size: int) -> Tensor:
    """Cells with a frame and a context that can be there, bool [B, T, V]."""
    device = reference.lengths.device
    frame = torch.arange(frames, device=device)[:, None]  # [T, 1]
    context = torch.arange(size, device=device)  # [V]
    inside = frame < reference.lengths[:, None, None]  # [B, T, 1]
    return inside & ((frame > 0) | (context == reference.blank))


def _slopes(
    log_probs: Tensor,
    everything: Any,
    posteriors: list[Tensor],
    reference: Reference,
    impossible: Tensor,
    scale: float,
) -> Tensor:
    """Replace log_probs by the gradient of the logits; returns the cells' occupancy [B, T, V].

    With g the arcs' posteriors among everything minus those among the reference's paths, it is
    scale * (g - softmax * sum of g over the row).
    """
    batch, frames, size, _ = log_probs.shape
    blank, label = posteriors  # [B, T, S+1], [B, T, S]
    columns = reference.columns(size)
    occupancy = log_probs.new_zeros(batch, frames, size)
    for part, arcs in everything:
        arcs.masked_fill_(impossible[:, None, None, None], 0.0)
        rows = arcs.sum(3)  # [B, n, V]
        occupancy[:, part] = rows
        flat = arcs.flatten(2)
        for index, values in zip(columns, (blank[:, part], label[:, part]), strict=True):
            index = index[:, None].expand(values.shape)
            flat.scatter_add_(2, index, -values)
            occupancy[:, part].scatter_add_(2, index // size, values.to(occupancy))
        rows = arcs.sum(3, keepdim=True)
        slopes = log_probs[:, part].exp_()
        slopes.mul_(rows.neg()).add_(arcs).mul_(scale)
    return occupancy
