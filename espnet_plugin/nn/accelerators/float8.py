"""Matrix products in float8, by torchao, on GPUs that multiply it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

#: Compute capability of the first GPUs with float8 products (Ada, Hopper).
CAPABILITY = (8, 9)
#: What sizes of a product must be a multiple of.
MULTIPLE = 16


def check_float8(device: torch.device) -> None:
    """Raises ValueError unless torchao is installed and the device multiplies float8."""
    if importlib.util.find_spec("torchao") is None:
        raise ValueError(
            "autocast float8 needs torchao (pip install torchao); bfloat16 needs nothing"
        )
    if device.type != "cuda":
        raise ValueError(f"autocast float8 needs a GPU, and this model is on the {device.type}")
    found = torch.cuda.get_device_capability(device)
    if found < CAPABILITY:
        raise ValueError(
            "autocast float8 needs a GPU of compute capability 8.9 (Ada, Hopper) or later; this "
            f"one, {torch.cuda.get_device_name(device)}, has {found[0]}.{found[1]}; take bfloat16"
        )


def convertible(linear: nn.Linear) -> bool:
    """Whether its sizes suit a product in float8."""
    return not (linear.in_features % MULTIPLE or linear.out_features % MULTIPLE)


def float8_forward(linear: nn.Linear, **config: Any) -> Callable[[Tensor], Tensor]:
    """What computes as `linear`, with its very parameters, in float8.

    Args:
        config: of torchao's `Float8LinearConfig`.
    """
    from torchao.float8 import Float8LinearConfig
    from torchao.float8.float8_linear import Float8Linear

    # the number of frames in a batch is no multiple of anything
    options = Float8LinearConfig(**{"pad_inner_dim": True, **config})
    twin: Callable[[Tensor], Tensor] = Float8Linear.from_float(linear, options)
    return twin
