"""Encoder outputs without padding: every valid frame of a batch, utterance after utterance."""

from __future__ import annotations

import torch
from torch import Tensor


def packed_frames(encoder_out: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B, T, D], [B] -> frames [F, D], number of each utterance's first [B], lengths [B].

    All on the device of ``encoder_out``.

    Raises:
        ValueError: The shapes do not fit, or a length is negative or greater than T.
    """
    batch, frames = encoder_out.shape[:2]
    if lengths.shape != (batch,):
        raise ValueError(f"{batch} encoder outputs, but lengths of shape {tuple(lengths.shape)}")
    if batch and (int(lengths.min()) < 0 or int(lengths.max()) > frames):
        raise ValueError(f"lengths {lengths.tolist()} are not all within 0 ... {frames} frames")
    lengths = lengths.to(encoder_out.device)
    valid = torch.arange(frames, device=lengths.device) < lengths[:, None]
    return encoder_out[valid], lengths.cumsum(0) - lengths, lengths
