"""The reference backend: plain torch, every device, both topologies, all options.

Shapes: B batch, T frames, S labels, V vocabulary with blank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnet_plugin.lattice import arc_posteriors, forward_scores, pack_steps
from espnet_plugin.losses.arc_scores import gather_arcs, log_sum_exp, scatter_arc_grads
from espnet_plugin.losses.options import FullSumOptions


class _FullSum(torch.autograd.Function):
    """-log P with the analytic gradient; keeps the logits, their log-sum-exp, the posteriors."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        targets: Tensor,
        lengths: Tensor,
        target_lengths: Tensor,
        options: FullSumOptions,
    ) -> Tensor:
        lse = log_sum_exp(logits)
        blank, label = gather_arcs(logits, lse, targets, options.blank)
        label = options.add_delay_penalty(label, lengths)
        arcs = pack_steps(blank, label, lengths, target_lengths, options.topology)
        if not ctx.needs_input_grad[0]:
            return -forward_scores(arcs)[1].to(lse.dtype)
        blank_posterior, label_posterior, log_prob = arc_posteriors(arcs)
        label_posterior *= 1.0 + options.fastemit_lambda
        ctx.save_for_backward(
            logits, lse, targets, blank_posterior.to(lse.dtype), label_posterior.to(lse.dtype)
        )
        ctx.blank = options.blank
        return -log_prob.to(lse.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, lse, targets, blank_posterior, label_posterior = ctx.saved_tensors
        weight = -grad[:, None, None]
        grad_logits = scatter_arc_grads(
            logits, lse, targets, ctx.blank, weight * blank_posterior, weight * label_posterior
        )
        return grad_logits, None, None, None, None


def loss(
    logits: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    options: FullSumOptions,
) -> Tensor:
    """See the package's docstring."""
    return _FullSum.apply(logits, targets, lengths, target_lengths, options)  # type: ignore[no-any-return]
