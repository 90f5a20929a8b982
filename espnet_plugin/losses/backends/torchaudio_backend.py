"""torchaudio's ``rnnt_loss`` (float32 and float16, CPU and CUDA, below 2^31 logits)."""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.losses.options import FullSumOptions


def loss(
    logits: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    options: FullSumOptions,
) -> Tensor:
    """See the package's docstring.

    Raises:
        ValueError: float64 logits, more of them than torchaudio's 32-bit indices reach, or on CUDA
            a sequence without labels.
    """
    from torchaudio.functional import rnnt_loss

    if logits.dtype == torch.float64:
        raise ValueError('torchaudio has no float64 loss; use backend="torch"')
    if logits.numel() >= 2**31:
        raise ValueError(
            f"torchaudio overflows above 2^31 logits, got {tuple(logits.shape)}; "
            'use backend="torch" or fused_full_sum_loss'
        )
    if logits.is_cuda and int(target_lengths.min()) == 0:
        # Off by 25 % on an H100 with torchaudio 2.11; its CPU code is right.
        raise ValueError(
            "torchaudio's CUDA loss is wrong for sequences without labels, of which this batch has "
            'some; use backend="torch" or "triton", or leave them out'
        )
    if logits.dtype == torch.bfloat16 or (logits.dtype == torch.float16 and not logits.is_cuda):
        logits = logits.float()
    device = logits.device
    # torchaudio insists on logits cut to the longest sequence and the longest target.
    frames, labels = int(lengths.max()), int(target_lengths.max())
    losses: Tensor = rnnt_loss(
        logits[:, :frames, : labels + 1].contiguous(),
        targets[:, :labels].to(device, torch.int32).contiguous(),
        lengths.to(device, torch.int32),
        target_lengths.to(device, torch.int32),
        blank=options.blank,
        clamp=-1.0,
        reduction="none",
    )
    return losses
