"""`layer_drop`: progressive layer dropping (arXiv 2010.13369).

Block i of L (from `first`) runs with probability p_i(t) = 1 - (i/L) (1 - theta(t)), where
theta(t) = (1 - theta) exp(-warm t) + theta falls from 1 within the first few percent of the stage
(t is the stage's progress; `warm` 100 is the paper's gamma times its number of steps).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import nn

from espnet_plugin.nn.accelerators.base import Accelerator, Host, Progress, stateless_generator


def keep_probabilities(blocks: int, theta: float, warm: float, first: int, t: float) -> list[float]:
    """p_i of every block at progress t, the lowest block first (section 2 of the paper)."""
    now = (1.0 - theta) * math.exp(-warm * t) + theta
    return [1.0 - (index + first) / blocks * (1.0 - now) for index in range(blocks)]


class LayerDrop(Accelerator):
    """Leaves out whole blocks of the encoder, one draw an update for the whole batch.

    A skipped block hands on its input, also as the intermediate output of `interctc_layer_idx`.
    Validation and decoding run all blocks.

    Args:
        theta: keep probability of the topmost block at the end, in (0, 1]; 1 drops nothing.
        warm: how fast dropping sets in; 0 keeps all blocks.
        first: 1 counts the lowest block as i = 1; 0 never drops it.
        rescale: divides what a running block adds to its input by p_i, as the paper does; of
            conformer blocks alone. Their last LayerNorm takes much of it back.

    Raises:
        ValueError: for other values.
    """

    def __init__(
        self, theta: float = 0.5, warm: float = 100.0, first: int = 1, rescale: bool = False
    ) -> None:
        if not 0.0 < theta <= 1.0:
            raise ValueError(f"theta is a probability, above 0 and at most 1; got {theta}")
        if warm < 0 or first not in (0, 1):
            raise ValueError(f"warm must not be negative, first is 0 or 1; got {warm=} {first=}")
        self._theta, self._warm, self._first = theta, warm, first
        self._rescale = rescale
        self._kept: list[bool] = []
        self._probabilities: list[float] = []
        self._seed = 0

    def attach(self, host: Host) -> None:
        """Wraps the forward of every block."""
        if not host.blocks:
            raise ValueError("the encoder has no list of blocks (encoder.encoders)")
        self._seed = host.seed
        self._kept = [True] * len(host.blocks)
        self._probabilities = [1.0] * len(host.blocks)
        for index, block in enumerate(host.blocks):
            self._wrap(index, block)
            if self._rescale:
                self._scale_residuals(index, block)

    def _wrap(self, index: int, block: nn.Module) -> None:
        plain = block.forward

        @functools.wraps(plain)
        def forward(x: Any, mask: Any, *args: Any, **kwargs: Any) -> Any:
            if block.training and not self._kept[index]:
                return x, mask
            return plain(x, mask, *args, **kwargs)

        block.forward = forward

    def _scale_residuals(self, index: int, block: nn.Module) -> None:
        dropout = getattr(block, "dropout", None)
        # ESPnet's conformer blocks put each residual branch, and nothing else, through it.
        if (
            not hasattr(block, "stochastic_depth_rate")
            or block.concat_after
            or not isinstance(dropout, nn.Module)
        ):
            raise ValueError(
                f"rescale knows the residual branches of conformer blocks without concat_after, "
                f"not those of {type(block).__name__}; leave it out"
            )

        def divide(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            p = self._probabilities[index]
            return output / p if module.training and p < 1.0 else output

        dropout.register_forward_hook(divide)

    def before_batch(self, progress: Progress) -> None:
        """Draws which blocks run in this update."""
        self._probabilities = keep_probabilities(
            len(self._kept), self._theta, self._warm, self._first, progress.update_fraction
        )
        generator = stateless_generator(self._seed, progress, "layer_drop")
        draws = torch.rand(len(self._kept), generator=generator).tolist()
        self._kept = [u < p for u, p in zip(draws, self._probabilities, strict=True)]

    def strength(self) -> dict[str, float]:
        """The share of blocks that run, expected and drawn."""
        count = len(self._kept)
        return {"expected": sum(self._probabilities) / count, "kept": sum(self._kept) / count}
