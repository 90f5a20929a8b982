"""A ``warprnnt_pytorch`` for stock ESPnet, on our full-sum loss.

Shapes: B batch, T frames, S labels, V vocabulary with blank.

ESPnet's transducers import ``warprnnt_pytorch.RNNTLoss`` as soon as a model is built, even to
decode. That package no longer builds for most people; this module takes its place when, and
only when, it is not installed:

    from espnet_plugin.compat import install_warprnnt
    install_warprnnt()
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import sys
from types import ModuleType

from torch import Tensor, nn

from espnet_plugin.losses import full_sum_loss

MODULE = "warprnnt_pytorch"
_MARK = "__espnet_plugin__"


def rnnt_loss(
    acts: Tensor,
    labels: Tensor,
    act_lens: Tensor,
    label_lens: Tensor,
    blank: int = 0,
    reduction: str = "mean",
    fastemit_lambda: float = 0.0,
) -> Tensor:
    """Transducer loss (topology ``rnnt``) with the argument order of ``warprnnt_pytorch``.

    Args:
        acts: logits, [B, T, S+1, V].
        labels: [B, S].
        act_lens: frames of each sequence, [B].
        label_lens: labels of each sequence, [B].
        blank: index of the blank.
        reduction: ``none`` [B], ``sum``, or ``mean`` over sequences.
        fastemit_lambda: FastEmit (arXiv 2010.11148).

    Returns:
        Loss in nats, [B] or scalar (the original returns shape [1] for the latter).

    Raises:
        ValueError: shapes, dtypes, lengths, labels or options do not fit.
    """
    return full_sum_loss(
        acts,
        labels,
        act_lens,
        label_lens,
        blank=blank,
        topology="rnnt",
        reduction=reduction,
        fastemit_lambda=fastemit_lambda,
    )


class RNNTLoss(nn.Module):
    """Module form of :func:`rnnt_loss`.

    Args:
        blank: index of the blank.
        reduction: ``none``, ``sum`` or ``mean``.
        fastemit_lambda: FastEmit (arXiv 2010.11148).
    """

    def __init__(
        self, blank: int = 0, reduction: str = "mean", fastemit_lambda: float = 0.0
    ) -> None:
        super().__init__()
        self.blank = blank
        self.reduction = reduction
        self.fastemit_lambda = fastemit_lambda

    def forward(self, acts: Tensor, labels: Tensor, act_lens: Tensor, label_lens: Tensor) -> Tensor:
        """See :func:`rnnt_loss`."""
        return rnnt_loss(
            acts,
            labels,
            act_lens,
            label_lens,
            self.blank,
            self.reduction,
            self.fastemit_lambda,
        )


def install_warprnnt() -> bool:
    """Offer this module under the name ``warprnnt_pytorch``, unless the real one is installed.

    Returns:
        True if ``import warprnnt_pytorch`` now gives ours, False if the real package is there
        (it is never shadowed, not even when it is broken).
    """
    present = sys.modules.get(MODULE)
    if present is not None:
        return hasattr(present, _MARK)
    if importlib.util.find_spec(MODULE) is not None:
        return False
    module = ModuleType(MODULE, "espnet_plugin.compat.warprnnt in place of warprnnt_pytorch")
    module.__spec__ = importlib.machinery.ModuleSpec(MODULE, loader=None)
    for name, value in (("RNNTLoss", RNNTLoss), ("rnnt_loss", rnnt_loss), (_MARK, True)):
        setattr(module, name, value)
    sys.modules[MODULE] = module
    logging.getLogger(__name__).info(
        "warprnnt_pytorch is not installed: stock ESPnet transducers use espnet_plugin's loss"
    )
    return True
