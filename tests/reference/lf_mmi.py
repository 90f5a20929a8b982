"""Lattice-free MMI of a context-1 model in NumPy: every alignment visited, and in the log domain.

Imports nothing of the package under test. Shapes: T frames, V vocabulary with blank. Scores are
[T, V, V], rows the last label (blank: none yet), columns the next symbol; lm [V, V + 1] with the
end of the sentence last.
"""

from __future__ import annotations

import itertools
import math

import numpy as np


def enumerated_loss(scores: np.ndarray, lm: np.ndarray, target: list[int], blank: int) -> float:
    """-log of the reference's share of the weight of all label sequences."""
    shares: dict[tuple[int, ...], float] = {}
    for symbols in itertools.product(range(len(lm)), repeat=len(scores)):
        state, score = blank, 0.0
        for frame, symbol in enumerate(symbols):
            score += scores[frame, state, symbol]
            if symbol != blank:
                score += lm[state, symbol]
                state = symbol
        labels = tuple(symbol for symbol in symbols if symbol != blank)
        shares[labels] = shares.get(labels, 0.0) + math.exp(score + lm[state, -1])
    return -math.log(shares[tuple(target)] / sum(shares.values()))


def log_domain_loss(scores: np.ndarray, lm: np.ndarray, target: list[int], blank: int) -> float:
    """The same by two recursions, which have no limit of length."""
    size = len(lm)
    total = np.full(size, -math.inf)
    total[blank] = 0.0
    path = np.full(len(target) + 1, -math.inf)
    path[0] = 0.0
    history = [blank, *target]
    for frame in scores:
        following = total + frame[:, blank]
        for label in range(size):
            if label != blank:
                ways = total + frame[:, label] + lm[:, label]
                following[label] = np.logaddexp(following[label], np.logaddexp.reduce(ways))
        total = following
        longer = path + frame[history, blank]
        for place in range(1, len(path)):
            arc = frame[history[place - 1], history[place]] + lm[history[place - 1], history[place]]
            longer[place] = np.logaddexp(longer[place], path[place - 1] + arc)
        path = longer
    return float(np.logaddexp.reduce(total + lm[:, -1]) - path[-1] - lm[history[-1], -1])
