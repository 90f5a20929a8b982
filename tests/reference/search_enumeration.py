"""Exhaustive search by enumerating every single alignment path. Pure Python, nothing of ours.

A model is a function ``log_probs(t, labels) -> sequence of V floats``: the transducer's
distribution at frame t after the labels emitted so far.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

LogProbs = Callable[[int, tuple[int, ...]], Sequence[float]]
Labels = tuple[int, ...]


def log_add(first: float, second: float) -> float:
    if -math.inf in (first, second):
        return max(first, second)
    high, low = max(first, second), min(first, second)
    return high + math.log1p(math.exp(low - high))


def frame_choices(vocab: int, topology: str, max_symbols: int) -> list[Labels]:
    """What one frame can emit (blank = 0): at most one label, or up to max_symbols labels."""
    most = 1 if topology == "monotonic" else max_symbols
    labels = range(1, vocab)
    return [c for n in range(most + 1) for c in itertools.product(labels, repeat=n)]


def paths(
    log_probs: LogProbs, frames: int, vocab: int, topology: str, max_symbols: int = 2
) -> Iterator[tuple[Labels, float]]:
    """(label sequence, log-probability) of every path."""
    choices = frame_choices(vocab, topology, max_symbols)
    for path in itertools.product(choices, repeat=frames):
        labels: Labels = ()
        score = 0.0
        for t, emitted in enumerate(path):
            for label in emitted:
                score += log_probs(t, labels)[label]
                labels = (*labels, label)
            if topology == "rnnt" or not emitted:
                score += log_probs(t, labels)[0]
        yield labels, score


def all_sequences(
    log_probs: LogProbs,
    frames: int,
    vocab: int,
    topology: str,
    max_symbols: int = 2,
    semiring: str = "full_sum",
) -> dict[Labels, float]:
    """Score of every label sequence: log-sum (or maximum) over its paths."""
    totals: dict[Labels, float] = {}
    for labels, score in paths(log_probs, frames, vocab, topology, max_symbols):
        old = totals.get(labels, -math.inf)
        totals[labels] = log_add(old, score) if semiring == "full_sum" else max(old, score)
    return totals


def best_alignment(
    log_probs: LogProbs, frames: int, vocab: int, topology: str, target: Labels
) -> float:
    """Score of the best path that spells ``target``."""
    most = len(target)
    found = [s for a, s in paths(log_probs, frames, vocab, topology, most) if a == target]
    return max(found, default=-math.inf)
