"""`optim: lion`, which torch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum (Chen et al. 2023, arXiv 2302.06675, program 1).

    u = sign(b1 m + (1 - b1) g);  w = w - lr (u + weight_decay w);  m = b2 m + (1 - b2) g

    Every weight moves by `lr`, so take a third to a tenth of AdamW's rate and three to ten times
    its weight decay. One state a weight, half of AdamW's.

    Args:
        params: parameters or groups of them.
        lr: step of every weight.
        betas: b1 of the update, b2 of the momentum.
        weight_decay: decoupled from the gradient.

    Raises:
        ValueError: for values that are out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or weight_decay < 0:
            raise ValueError(
                f"lion: lr and weight_decay must not be negative, got {lr}, {weight_decay}"
            )
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"lion: betas are two numbers in [0, 1), got {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"]
                direction = torch.lerp(weight.grad, momentum, first).sign_()
                weight.mul_(1.0 - group["lr"] * group["weight_decay"])
                weight.add_(direction, alpha=-group["lr"])
                momentum.lerp_(weight.grad, 1.0 - second)
        return loss
