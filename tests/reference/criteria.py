"""Frame-wise and list-wise criteria in NumPy, written as sums over single terms.

Imports nothing of the package under test. Shapes: T frames, V vocabulary, N hypotheses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.reference.transducer import log_softmax


def viterbi_loss(
    logits: np.ndarray, alignment: list[int], blank: int, smoothing: float, boost: float
) -> float:
    log_probs = log_softmax(logits)
    total = 0.0
    for frame, symbol in zip(log_probs, alignment, strict=True):
        wanted = np.full(len(frame), smoothing / len(frame))
        wanted[symbol] += 1.0 - smoothing
        total -= float(wanted @ frame)
        if symbol != blank:
            total -= boost * frame[symbol]
    return total


def focal_cross_entropy(logits: np.ndarray, alignment: list[int], gamma: float) -> float:
    total = 0.0
    for frame, symbol in zip(log_softmax(logits), alignment, strict=True):
        total -= (1.0 - np.exp(frame[symbol])) ** gamma * frame[symbol]
    return total


def expected_risk(scores: np.ndarray, risks: np.ndarray, scale: float) -> float:
    weights = np.exp(scale * (scores - scores.max()))
    return float(weights @ risks / weights.sum())


def numerical_gradient(
    function: Callable[[np.ndarray], float], point: np.ndarray, step: float = 1e-6
) -> np.ndarray:
    """Central differences of a scalar function."""
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        high, low = point.copy(), point.copy()
        high[index] += step
        low[index] -= step
        gradient[index] = (function(high) - function(low)) / (2 * step)
    return gradient
