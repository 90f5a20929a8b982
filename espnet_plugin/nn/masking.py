"""Spans of features that a model has to guess, and stacks of features to guess from.

Shape legend: B batch, T' feature frames, F features, T encoder frames, k features frames a stack.
"""

from __future__ import annotations

import torch
from torch import Tensor


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """Lengths [B] -> True where a frame is no padding, [B, frames]."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def span_mask(draws: Tensor, lengths: Tensor, probability: float, span: int) -> Tensor:
    """Spans of `span` frames, each of which begins at a frame with `probability`; they may overlap.

    A frame with a whole span before and behind it is masked with probability 1 - (1 - p)^span.

    Args:
        draws: [B, T'] uniform in [0, 1), one for each frame where a span may begin.
        lengths: [B]; spans lie within them, so that a shorter row has none.

    Returns:
        [B, T'], True where masked.
    """
    begins = (draws < probability) & valid_frames(lengths - span + 1, draws.size(1))  # [B, T']
    begun = begins.cumsum(1)
    ended = torch.nn.functional.pad(begun, (span, 0))[:, : draws.size(1)]  # begun `span` before
    return begun > ended


def normalised(features: Tensor, lengths: Tensor) -> Tensor:
    """[B, T', F] -> each row's features with mean 0 and deviation 1 over its time; padding 0."""
    valid = valid_frames(lengths, features.size(1))[:, :, None]  # [B, T', 1]
    count = lengths.clamp(min=1)[:, None, None]
    mean = features.masked_fill(~valid, 0.0).sum(1, keepdim=True) / count
    centred = (features - mean).masked_fill(~valid, 0.0)
    deviation = (centred.square().sum(1, keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=1e-5)


def stacked(features: Tensor, factor: int, offset: int, frames: int) -> Tensor:
    """The `factor` feature frames that each encoder frame stands for.

    Args:
        features: [B, T', ...].
        factor, offset: T = floor((T' - offset) / factor), as the encoder shortens time; one that
            loses features at the borders has the middle of what it sees.
        frames: T.

    Returns:
        [B, T, factor, ...]; zeros where an encoder pads beyond the last feature.
    """
    first = max(offset, 0) // 2
    index = first + torch.arange(frames * factor, device=features.device)  # [T * factor]
    beyond = index >= features.size(1)
    taken = features[:, index.clamp(max=features.size(1) - 1)]  # [B, T * factor, ...]
    taken = taken.masked_fill(beyond.view(1, -1, *[1] * (features.dim() - 2)), 0)
    return taken.view(len(features), frames, factor, *features.shape[2:])
