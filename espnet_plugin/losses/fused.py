"""Joint network and full-sum loss in one call.

Shapes: B batch, T frames, S labels, V vocabulary with blank.
"""

from __future__ import annotations

from torch import Tensor

from espnet_plugin.losses.full_sum import full_sum_loss
from espnet_plugin.nn import JointNetwork


def fused_full_sum_loss(
    encoder_out: Tensor,
    prediction_out: Tensor,
    joint: JointNetwork,
    targets: Tensor,
    encoder_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    topology: str = "monotonic",
    reduction: str = "mean",
    backend: str = "auto",
    infeasible: str = "inf",
    fastemit_lambda: float = 0.0,
    delay_penalty: float = 0.0,
    check: bool | None = None,
) -> Tensor:
    """Joint network and loss (for now by way of the whole grid of logits).

    Args:
        encoder_out: [B, T, D_enc].
        prediction_out: [B, S+1, D_pred].
        joint: the joint network.
        targets: labels, [B, S]; padding may hold anything.
        encoder_lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        blank: index of the blank.
        topology: ``monotonic`` or ``rnnt``.
        reduction: ``none`` [B], ``sum``, or ``mean`` over sequences.
        backend: as for :func:`full_sum_loss`.
        infeasible: as for :func:`full_sum_loss`.
        fastemit_lambda: as for :func:`full_sum_loss`.
        delay_penalty: as for :func:`full_sum_loss`.
        check: as for :func:`full_sum_loss`.

    Returns:
        Loss in nats, [B] or scalar.
    """
    logits = joint(encoder_out[:, :, None], prediction_out[:, None])  # [B, T, S+1, V]
    return full_sum_loss(
        logits,
        targets,
        encoder_lengths,
        target_lengths,
        blank=blank,
        topology=topology,
        reduction=reduction,
        backend=backend,
        infeasible=infeasible,
        fastemit_lambda=fastemit_lambda,
        delay_penalty=delay_penalty,
        check=check,
    )
