"""Options of the full-sum loss that every backend receives.

Shapes: B batch, T frames, S labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_plugin.lattice import check_topology
from espnet_plugin.losses.restriction import Restriction


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
        restriction: sum over a part of the alignments only, or None.

    Raises:
        ValueError: unknown topology or a negative regulariser.
    """

    blank: int = 0
    topology: str = "monotonic"
    fastemit_lambda: float = 0.0
    delay_penalty: float = 0.0
    restriction: Restriction | None = None

    def __post_init__(self) -> None:
        check_topology(self.topology)
        for name in ("fastemit_lambda", "delay_penalty"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def alter(self, blank: Tensor, label: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Arc scores [B, T, S+1], [B, T, S] with delay penalty and restriction applied."""
        if self.delay_penalty != 0.0:
            frames = torch.arange(label.shape[1], device=label.device)
            middle = (lengths.to(label)[:, None] - 1) / 2  # [B, 1]
            offset = self.delay_penalty * (middle - frames)  # [B, T]
            label = label + offset[:, :, None]
        if self.restriction is not None:
            blank = blank.masked_fill(~self.restriction.blank, -math.inf)
            label = label.masked_fill(~self.restriction.label, -math.inf)
        return blank, label

    @property
    def altered(self) -> tuple[str, ...]:
        """Names of the options that are in use."""
        names = []
        if self.fastemit_lambda != 0.0:
            names.append("fastemit_lambda")
        if self.delay_penalty != 0.0:
            names.append("delay_penalty")
        if self.restriction is not None:
            names.append("restriction")
        return tuple(names)
