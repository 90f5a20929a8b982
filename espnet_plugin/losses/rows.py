"""What happens to one row of logits: log-softmax and gather, and the gradient of that.

Shapes: R cells of one chunk, V vocabulary with blank.

With w_blank, w_label the weights of log p(blank) and log p(label) in some objective, its
gradient with respect to the logits of the row is

    w_blank * 1[v = blank] + w_label * 1[v = label] - (w_blank + w_label) * softmax(z)_v
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


def sum_dtype(scores: Tensor) -> torch.dtype:
    """Dtype of sums over the vocabulary: float64 stays, everything else becomes float32."""
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


class RowEngine(Protocol):
    """Row-wise work on logits [R, V]; ``labels`` are int64 [R]."""

    def arc_scores(self, logits: Tensor, labels: Tensor, blank: int) -> tuple[Tensor, Tensor]:
        """log p(blank) [R] and log p(label) [R], in :func:`sum_dtype`."""

    def slopes(
        self, logits: Tensor, labels: Tensor, blank: int, w_blank: Tensor, w_label: Tensor
    ) -> Tensor:
        """Gradient of the module's docstring, [R, V], in the dtype of ``logits``.

        Rows whose two weights are 0 become 0 whatever their logits hold.
        """


class TorchRows:
    """Plain torch; one chunk is meant to stay in the cache."""

    def arc_scores(self, logits: Tensor, labels: Tensor, blank: int) -> tuple[Tensor, Tensor]:
        """See :class:`RowEngine`."""
        log_probs = logits.to(sum_dtype(logits)).log_softmax(1)  # [R, V]
        return log_probs[:, blank], log_probs.gather(1, labels[:, None]).squeeze(1)

    def slopes(
        self, logits: Tensor, labels: Tensor, blank: int, w_blank: Tensor, w_label: Tensor
    ) -> Tensor:
        """See :class:`RowEngine`."""
        slope = logits.to(sum_dtype(logits)).softmax(1)  # [R, V]
        total = w_blank + w_label
        slope.mul_(total.neg()[:, None])
        slope[:, blank] += w_blank
        slope.scatter_add_(1, labels[:, None], w_label[:, None])
        # Padding may hold NaN, and 0 * NaN is NaN. A row's weights share their sign.
        return slope.masked_fill_((total == 0)[:, None], 0.0).to(logits.dtype)
