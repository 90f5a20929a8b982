"""1ytic's ``warp_rnnt`` (CUDA, float32; takes log-probabilities)."""

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
    """See the package's docstring. The package's ``gather`` keeps blank and label only.

    Raises:
        ValueError: logits that are not on a CUDA device.
    """
    from warp_rnnt import rnnt_loss

    if not logits.is_cuda:
        raise ValueError(f"warp_rnnt needs CUDA tensors, got {logits.device}")
    frames, labels = int(lengths.max()), int(target_lengths.max())
    device = logits.device
    log_probs = logits[:, :frames, : labels + 1].float().log_softmax(-1)
    losses: Tensor = rnnt_loss(
        log_probs.contiguous(),
        targets[:, :labels].to(device, torch.int32).contiguous(),
        lengths.to(device, torch.int32),
        target_lengths.to(device, torch.int32),
        reduction="none",
        blank=options.blank,
        gather=True,
        fastemit_lambda=options.fastemit_lambda,
    )
    return losses
