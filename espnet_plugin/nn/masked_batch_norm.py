"""Batch normalisation whose statistics leave padded frames out.

Shape legend: B batch, C channels, T frames.

A batch of windows or utterances of several lengths is padded, and padded frames, almost constant,
pull the batch's variance down by about their share: 7 % in windows of 64 every 32 encoder frames on
AN4, 31 % in shuffled batches of its utterances (docs/accelerators.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class MaskedBatchNorm1d(nn.BatchNorm1d):
    """As BatchNorm1d on [B, C, T], over the frames of `mask` while it trains.

    Parameters and buffers are those of `nn.BatchNorm1d`, and so is what it does in evaluation.

    Attributes:
        mask: [B, 1, T], True on frames that count; None: all. Set before each call.
    """

    mask: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, T] -> the same; padded frames are normalised as the others."""
        mask, momentum = self.mask, self.momentum
        if not self.training or mask is None or self.running_mean is None or momentum is None:
            return super().forward(input)
        assert mask.shape == (len(input), 1, input.size(2)), (mask.shape, input.shape)
        assert self.running_var is not None and self.num_batches_tracked is not None
        with torch.autocast(input.device.type, enabled=False):
            values = input if input.dtype == torch.float64 else input.float()
            used = mask.to(values.dtype)
            count = used.sum().clamp(min=1.0)
            mean = (values * used).sum((0, 2)) / count  # [C]
            centred = values - mean[:, None]
            variance = (centred.square() * used).sum((0, 2)) / count  # [C]
            with torch.no_grad():
                unbiased = variance * count / (count - 1.0).clamp(min=1.0)
                self.running_mean.lerp_(mean.to(self.running_mean), momentum)
                self.running_var.lerp_(unbiased.to(self.running_var), momentum)
                self.num_batches_tracked.add_(1)
            scale = (variance + self.eps).rsqrt() * self.weight
            return (centred * scale[:, None] + self.bias[:, None]).to(input.dtype)


def mask_batch_norm(convolution: nn.Module) -> None:
    """Make the `norm` of an ESPnet convolution module leave out what `mask_pad` leaves out.

    Raises:
        ValueError: its `norm` is no batch normalisation.
    """
    old = convolution.norm
    if not isinstance(old, nn.BatchNorm1d):
        raise ValueError(f"masked_batch_norm needs batch normalisation, found {type(old).__name__}")
    norm = MaskedBatchNorm1d(old.num_features, old.eps, old.momentum)
    norm.load_state_dict(old.state_dict())
    convolution.norm = norm

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        norm.mask = kwargs.get("mask_pad", args[1] if len(args) > 1 else None)

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        norm.mask = None

    convolution.register_forward_pre_hook(before, with_kwargs=True)
    convolution.register_forward_hook(after)
