"""The reference backend: plain torch, every device, both topologies, all options."""

from __future__ import annotations

from torch import Tensor

from espnet_plugin.losses.engines.engine import torch_engine
from espnet_plugin.losses.engines.grid import grid_full_sum
from espnet_plugin.losses.options import FullSumOptions


def loss(
    logits: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    options: FullSumOptions,
) -> Tensor:
    """See the package's docstring."""
    return grid_full_sum(logits, targets, lengths, target_lengths, options, torch_engine())
