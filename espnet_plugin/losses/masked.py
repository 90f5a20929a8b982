"""Guessing what was masked, without any transcript (BEST-RQ, arXiv 2202.01855; 2411.09849).

best_rq: L = sum over masked frames t, mean over books b, of -log softmax(z_tb)[code_tb]
masked_spectrogram: L = sum over masked frames t, mean over features f, of |y_tf - x_tf|^n, n 1 or 2

Shape legend: M masked frames, K code books, C codes of a book, F features.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from espnet_plugin.losses.reduction import reduce_losses

NORMS = ("l1", "l2")


def masked_code_loss(logits: Tensor, codes: Tensor, *, reduction: str = "mean") -> Tensor:
    """Cross entropy of the codes of masked frames, in float32.

    Args:
        logits: [M, K, C], unnormalised.
        codes: [M, K].
        reduction: "none" ([M]), "sum" or "mean"; the mean over no frame is 0.

    Raises:
        ValueError: an unknown reduction.
    """
    losses = functional.cross_entropy(logits.float().mT, codes, reduction="none")  # [M, K]
    return reduce_losses(losses.mean(1), reduction)


def masked_feature_loss(
    predicted: Tensor, features: Tensor, *, norm: str = "l1", reduction: str = "mean"
) -> Tensor:
    """Distance of predicted from true features, both [M, F], in float32.

    Args:
        norm: "l1" (absolute) or "l2" (squared differences).
        reduction: "none" ([M]), "sum" or "mean"; the mean over no frame is 0.

    Raises:
        ValueError: an unknown norm or reduction.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}")
    apart = predicted.float() - features.float()
    distances = apart.abs() if norm == "l1" else apart.square()
    return reduce_losses(distances.mean(1), reduction)
