"""Scaled log-probabilities: what one model rules out stays so under any scale.

-inf times 0 is NaN, and times a negative scale +inf; n-grams of probability zero (``-99`` in an
ARPA file) and forbidden labels are -inf.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

NEG_INF = float("-inf")


def scaled(log_prob: Tensor, scale: float) -> Tensor:
    """scale * log_prob, -inf where ``log_prob`` is."""
    return (scale * log_prob).masked_fill(log_prob == NEG_INF, NEG_INF)


def scaled_sum(scales: Iterable[float], log_probs: Iterable[float]) -> float:
    """Σ scale * log_prob of one hypothesis, -inf if any log-probability is."""
    return sum(
        NEG_INF if part == NEG_INF else scale * part
        for scale, part in zip(scales, log_probs, strict=True)
    )
