"""`channels_last`: the front-end's images with their channels side by side in memory.

PyTorch's convolutions on CPUs, and those of a GPU's tensor cores, compute in that order: images in
the usual one are turned to it and back. The pooling between them is faster as well.
"""

from __future__ import annotations

import torch
from torch import nn

from espnet_plugin.nn.accelerators.base import Accelerator, Host


class ChannelsLast(Accelerator):
    """Changes the memory format of the encoder's 2-d convolutions, not what they compute.

    Convolutions hand on the format of their weights, and all that is between them keeps it. The
    order of sums may change, so that a result differs by rounding.
    """

    def attach(self, host: Host) -> None:
        """Lays out the weights anew; files hold the same values in the same shapes."""
        blocks = {id(module) for block in host.blocks for module in block.modules()}
        encoder = getattr(host.model, "encoder", host.model)
        found = [
            module
            for module in encoder.modules()
            if isinstance(module, nn.Conv2d) and id(module) not in blocks
        ]
        if not found:
            raise ValueError("the encoder's front-end has no 2-d convolutions")
        for module in found:
            module.to(memory_format=torch.channels_last)
