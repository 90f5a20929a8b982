"""Options of the full-sum loss that every backend receives.

Shapes: B batch, T frames, S labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_plugin.lattice import check_topology


@dataclass(frozen=True)
class FullSumOptions:
    """What to sum over, and the regularisers.

    Attributes:
        blank: index of the blank.
        topology: ``monotonic`` or ``rnnt``.
        fastemit_lambda: FastEmit (Yu et al. 2021, arXiv 2010.11148, eq. 12): gradients of label
            arcs are multiplied by 1 + lambda. The value stays -log P.
        delay_penalty: Kang et al. 2023 (arXiv 2211.00490, eq. 4): lambda * ((T_b - 1)/2 - t) is
            added to the score of a label arc at frame t, which favours early labels. The value
            is that of the altered scores.

    Raises:
        ValueError: unknown topology or a negative regulariser.
    """

    blank: int = 0
    topology: str = "monotonic"
    fastemit_lambda: float = 0.0
    delay_penalty: float = 0.0

    def __post_init__(self) -> None:
        check_topology(self.topology)
        for name in ("fastemit_lambda", "delay_penalty"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def add_delay_penalty(self, label_scores: Tensor, lengths: Tensor) -> Tensor:
        """Label scores [B, T, S] with the delay penalty added."""
        if self.delay_penalty == 0.0:
            return label_scores
        frames = torch.arange(label_scores.shape[1], device=label_scores.device)
        middle = (lengths.to(label_scores.device)[:, None] - 1) / 2  # [B, 1]
        offset = self.delay_penalty * (middle - frames)  # [B, T]
        return label_scores + offset[:, :, None].to(label_scores.dtype)
