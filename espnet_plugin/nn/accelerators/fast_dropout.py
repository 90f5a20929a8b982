"""`fast_dropout`: the encoder's dropout with four units drawn from each random number.

On a CPU, drawing one number a unit is an eighth to a fifth of a training step of a small model.
Here a 64-bit number serves four units, each kept with a probability that is a multiple of 2^-16
next to the one asked for, and the factor is that probability's exact inverse.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espnet_plugin.nn.accelerators.base import Accelerator, Host
from espnet_plugin.nn.dropout import BroadcastDropout

_VALUES = 2**16


def draw_keep(shape: torch.Size, kept_values: int, device: torch.device) -> Tensor:
    """True with probability kept_values / 2^16, independently; from torch's default generator."""
    units = shape.numel()
    words = torch.empty((units + 3) // 4, dtype=torch.int64, device=device)
    words.random_(-(2**63), None)
    draws = words.view(torch.int16)[:units].view(shape)
    return draws < kept_values - _VALUES // 2


class FastDropout(Accelerator):
    """Replaces the drawing of every `nn.Dropout` of the encoder's blocks, on CPUs only.

    A GPU draws its masks inside the kernel that applies them, so nothing is changed there.
    """

    def attach(self, host: Host) -> None:
        """Gives the blocks' dropout modules another forward."""
        if next(host.model.parameters()).device.type != "cpu":
            return
        found = [
            module
            for block in host.blocks
            for module in block.modules()
            # a mask for the whole batch costs nothing already
            if isinstance(module, nn.Dropout) and not isinstance(module, BroadcastDropout)
        ]
        if not found:
            raise ValueError("the encoder's blocks have no dropout")
        for module in found:
            setattr(module, "forward", _Forward(module))  # noqa: B010  (mypy: a method)


class _Forward:
    """Dropout of one module; reads its probability at every call, as the module does."""

    def __init__(self, module: nn.Dropout) -> None:
        self._module = module

    def __call__(self, x: Tensor) -> Tensor:
        kept_values = round((1.0 - self._module.p) * _VALUES)
        if not self._module.training or kept_values == _VALUES:
            return x
        if kept_values == 0:
            return x * 0.0
        keep = draw_keep(x.shape, kept_values, x.device)
        return x * keep.to(x.dtype).mul_(_VALUES / kept_values)
