"""log P of a label sequence as a differentiable function of the arc scores.

Shapes: B batch, T frames, S labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from espnet_plugin.lattice.once import only_once
from espnet_plugin.lattice.recursion import arc_posteriors, forward_scores
from espnet_plugin.lattice.steps import pack_steps


class _LatticeLogProb(torch.autograd.Function):
    """Forward-backward in the forward pass; the gradient is the saved arc posterior."""

    @staticmethod
    def forward(
        ctx: Any,
        blank: Tensor,
        label: Tensor,
        lengths: Tensor,
        target_lengths: Tensor,
        topology: str,
    ) -> Tensor:
        arcs = pack_steps(blank, label, lengths, target_lengths, topology)
        if not (ctx.needs_input_grad[0] or ctx.needs_input_grad[1]):
            return forward_scores(arcs)[1].to(blank.dtype)
        blank_posterior, label_posterior, log_prob = arc_posteriors(arcs)
        ctx.save_for_backward(blank_posterior.to(blank.dtype), label_posterior.to(label.dtype))
        return log_prob.to(blank.dtype)

    @staticmethod
    @only_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        blank_posterior, label_posterior = ctx.saved_tensors
        weight = grad[:, None, None]
        return weight * blank_posterior, weight * label_posterior, None, None, None


def lattice_log_prob(
    blank: Tensor,
    label: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    topology: str = "monotonic",
) -> Tensor:
    """log P(a|x), the sum over all alignments, for given arc scores.

    Args:
        blank: log p(blank | t, u), [B, T, S+1].
        label: log p(a_{u+1} | t, u), [B, T, S].
        lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        topology: ``monotonic`` or ``rnnt``.

    Returns:
        log P, [B], in nats; -inf where a sequence has no path (with gradient 0).
    """
    return _LatticeLogProb.apply(blank, label, lengths, target_lengths, topology)  # type: ignore[no-any-return]
