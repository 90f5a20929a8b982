"""Clipping every element of the gradient, beside ESPnet's clipping of its norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def clip_elements(optimizers: Iterable[torch.optim.Optimizer], value: float) -> None:
    """From now on, updates see gradients whose elements lie within [-value, value].

    Before an optimizer's step gradients are unscaled (under AMP, too), accumulated, and through
    ESPnet's own clipping and logging of the norm.

    Raises:
        ValueError: a value that is not positive.
    """
    if not value > 0:
        raise ValueError(f"grad_clip_value must be positive, got {value}; null clips nothing")

    def clip(optimizer: torch.optim.Optimizer, *_unused: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_value_(parameters, value)

    for optimizer in optimizers:
        optimizer.register_step_pre_hook(clip)
