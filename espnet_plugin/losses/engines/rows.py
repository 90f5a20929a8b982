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
    """Row-wise work on logits [R, V]; ``labels`` are int64 [R].

    ``overwrite`` allows the logits to be used as working space.
    """

    def arc_scores(
        self, logits: Tensor, labels: Tensor, blank: int, *, overwrite: bool = False
    ) -> tuple[Tensor, Tensor]:
        """log p(blank) [R] and log p(label) [R], in :func:`sum_dtype`."""

    def slopes(
        self,
        logits: Tensor,
        labels: Tensor,
        blank: int,
        w_blank: Tensor,
        w_label: Tensor,
        *,
        overwrite: bool = False,
    ) -> Tensor:
        """Gradient of the module's docstring, [R, V], in the dtype of ``logits``.

        Rows whose two weights are 0 become 0 whatever their logits hold.
        """


def _output(scores: Tensor, logits: Tensor, overwrite: bool) -> Tensor | None:
    """Where a softmax of ``scores`` may go: into ``scores`` if that is nobody else's."""
    # torch's CPU kernels finish reading a row's statistics before they write any of it.
    return scores if scores.device.type == "cpu" and (overwrite or scores is not logits) else None


class TorchRows:
    """Plain torch; one chunk is meant to stay in the cache."""

    def arc_scores(
        self, logits: Tensor, labels: Tensor, blank: int, *, overwrite: bool = False
    ) -> tuple[Tensor, Tensor]:
        """See :class:`RowEngine`."""
        scores = logits.to(sum_dtype(logits))
        log_probs = torch.log_softmax(scores, 1, out=_output(scores, logits, overwrite))  # [R, V]
        return log_probs[:, blank], log_probs.gather(1, labels[:, None]).squeeze(1)

    def slopes(
        self,
        logits: Tensor,
        labels: Tensor,
        blank: int,
        w_blank: Tensor,
        w_label: Tensor,
        *,
        overwrite: bool = False,
    ) -> Tensor:
        """See :class:`RowEngine`."""
        scores = logits.to(sum_dtype(logits))
        slope = torch.softmax(scores, 1, out=_output(scores, logits, overwrite))  # [R, V]
        total = w_blank + w_label
        slope.mul_(total.neg()[:, None])
        slope[:, blank] += w_blank
        slope.scatter_add_(1, labels[:, None], w_label[:, None])
        # Padding may hold NaN, and 0 * NaN is NaN. A row's weights share their sign.
        return slope.masked_fill_((total == 0)[:, None], 0.0).to(logits.dtype)
