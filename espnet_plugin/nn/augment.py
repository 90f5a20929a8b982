"""Feature augmentation of the paper's set-ups, on normalised features (0 is the mean).

Shape legend: B batch, T' feature frames, F feature channels, M masks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_masks(
    lengths: Tensor, counts: Tensor, max_width: int, size: int, generator: torch.Generator | None
) -> Tensor:
    """Boolean [B, size]: True where one of an utterance's random masks lies.

    Each of the `counts` [B] masks has a width uniform in 0..max_width and lies anywhere within the
    utterance's `lengths` [B].
    """
    most = int(counts.max()) if counts.numel() else 0
    device = lengths.device
    if most == 0 or max_width == 0:
        return torch.zeros(len(lengths), size, dtype=torch.bool, device=device)
    shape = (len(lengths), most)
    width = torch.randint(0, max_width + 1, shape, generator=generator).to(device)
    room = (lengths[:, None] - width).clamp(min=0) + 1  # [B, M]
    start = (torch.rand(shape, generator=generator).to(device) * room).long()
    active = torch.arange(most, device=device) < counts[:, None]  # [B, M]
    position = torch.arange(size, device=device)  # [size]
    hit = (position >= start[..., None]) & (position < (start + width)[..., None])
    return (hit & active[..., None]).any(1)


def time_stretch(
    feats: Tensor, lengths: Tensor, factor: float, min_length: int = 1
) -> tuple[Tensor, Tensor]:
    """Speed perturbation on features: [B, T', F] -> [B, round(T'·factor), F], linear interpolation.

    factor > 1 makes speech slower (longer). Lengths scale with the batch's own time axis.
    """
    size = max(round(feats.size(1) * factor), min_length)
    stretched = torch.nn.functional.interpolate(
        feats.transpose(1, 2), size=size, mode="linear", align_corners=False
    ).transpose(1, 2)  # [B, T'', F]
    scale = size / feats.size(1)
    new_lengths = (lengths.double() * scale).round().long().clamp(min=min_length, max=size)
    return stretched, new_lengths


def frequency_warp(feats: Tensor, factors: Tensor) -> Tensor:
    """Vocal-tract-length perturbation on filterbank channels: channel c reads channel c·factor.

    feats [B, T', F], factors [B] -> [B, T', F], linear interpolation, the last channel repeated
    beyond the top (Jaitly and Hinton 2013 warp the filterbank itself; this warps its output).
    """
    channels = feats.size(2)
    position = torch.arange(channels, device=feats.device) * factors[:, None]  # [B, F]
    position = position.clamp(max=channels - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=channels - 1)
    weight = (position - low).to(feats.dtype)[:, None]  # [B, 1, F]
    shape = feats.shape
    below = feats.gather(2, low[:, None].expand(shape))
    above = feats.gather(2, high[:, None].expand(shape))
    return below + weight * (above - below)
