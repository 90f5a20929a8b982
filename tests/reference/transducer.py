"""Slow, obvious transducer mathematics in NumPy: path enumeration and textbook recursions.

Everything is float64 and for one sequence. Imports nothing of the package under test.
Shapes: T frames, S labels, V vocabulary with blank.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

Arc = tuple[int, int, bool]  # frame, labels emitted before, whether a label is emitted


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = np.asarray(z, dtype=np.float64)
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def paths(frames: int, labels: int, topology: str) -> Iterator[list[Arc]]:
    """All alignments of ``labels`` labels to ``frames`` frames, as lists of arcs."""
    steps = frames if topology == "monotonic" else frames + labels
    for chosen in itertools.combinations(range(steps), labels):
        t = u = 0
        path: list[Arc] = []
        for n in range(steps):
            is_label = n in chosen
            path.append((t, u, is_label))
            u += is_label
            t += 1 if topology == "monotonic" else not is_label
        # rnnt: after the last frame's blank no label may follow.
        if all(arc[0] < frames for arc in path):
            yield path


def arc_score(log_probs: np.ndarray, targets: list[int], arc: Arc, blank: int) -> float:
    t, u, is_label = arc
    return float(log_probs[t, u, targets[u] if is_label else blank])


def enumerate_loss(
    logits: np.ndarray, targets: list[int], blank: int, topology: str
) -> tuple[float, np.ndarray]:
    """-log P and its gradient with respect to the logits [T, S+1, V], path by path."""
    log_probs = log_softmax(logits)
    all_paths = list(paths(len(logits), len(targets), topology))
    if not all_paths:
        return np.inf, np.zeros_like(log_probs)
    scores = np.array([sum(arc_score(log_probs, targets, a, blank) for a in p) for p in all_paths])
    best = scores.max()
    total = best + np.log(np.exp(scores - best).sum())
    grad = np.zeros_like(log_probs)
    for path, score in zip(all_paths, scores, strict=True):
        posterior = np.exp(score - total)
        for t, u, is_label in path:
            grad[t, u] += posterior * np.exp(log_probs[t, u])
            grad[t, u, targets[u] if is_label else blank] -= posterior
    return -total, grad


def arc_posteriors(
    logits: np.ndarray, targets: list[int], blank: int, topology: str
) -> tuple[np.ndarray, np.ndarray]:
    """Probability that the path takes a cell's blank arc, or its label arc, both [T, S+1]."""
    log_probs = log_softmax(logits)
    all_paths = list(paths(len(logits), len(targets), topology))
    scores = np.array([sum(arc_score(log_probs, targets, a, blank) for a in p) for p in all_paths])
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    grid = np.zeros((2, *log_probs.shape[:2]))
    for path, weight in zip(all_paths, weights, strict=True):
        for t, u, is_label in path:
            grid[int(is_label), t, u] += weight
    return grid[0], grid[1]


def best_path(
    logits: np.ndarray, targets: list[int], blank: int, topology: str
) -> tuple[float, list[Arc]]:
    """Score and arcs of the most probable alignment."""
    log_probs = log_softmax(logits)

    def score(path: list[Arc]) -> float:
        return sum(arc_score(log_probs, targets, arc, blank) for arc in path)

    best = max(paths(len(logits), len(targets), topology), key=score)
    return score(best), best


def alpha_loss(logits: np.ndarray, targets: list[int], blank: int, topology: str) -> float:
    """-log P by the forward recursion over the (t, u) grid, as printed in the papers."""
    log_probs = log_softmax(logits)
    frames, labels = len(logits), len(targets)
    alpha = np.full((frames + 1, labels + 1), -np.inf)
    alpha[0, 0] = 0.0
    for t in range(frames + 1):
        for u in range(labels + 1):
            if t > 0:
                alpha[t, u] = np.logaddexp(
                    alpha[t, u], alpha[t - 1, u] + log_probs[t - 1, u, blank]
                )
            if u > 0 and topology == "monotonic" and t > 0:
                step = alpha[t - 1, u - 1] + log_probs[t - 1, u - 1, targets[u - 1]]
                alpha[t, u] = np.logaddexp(alpha[t, u], step)
            if u > 0 and topology == "rnnt" and t < frames:
                step = alpha[t, u - 1] + log_probs[t, u - 1, targets[u - 1]]
                alpha[t, u] = np.logaddexp(alpha[t, u], step)
    return -float(alpha[frames, labels])


def beta_loss(logits: np.ndarray, targets: list[int], blank: int, topology: str) -> float:
    """-log P by the backward recursion."""
    log_probs = log_softmax(logits)
    frames, labels = len(logits), len(targets)
    beta = np.full((frames + 1, labels + 1), -np.inf)
    beta[frames, labels] = 0.0
    for t in range(frames - 1, -1, -1):
        for u in range(labels, -1, -1):
            beta[t, u] = log_probs[t, u, blank] + beta[t + 1, u]
            if u < labels:
                follow = t + 1 if topology == "monotonic" else t
                step = log_probs[t, u, targets[u]] + beta[follow, u + 1]
                beta[t, u] = np.logaddexp(beta[t, u], step)
    return -float(beta[0, 0])


def ctc_loss(logits: np.ndarray, targets: list[int], blank: int) -> float:
    """-log P_CTC by enumerating all V^T frame labellings [T, V]."""
    log_probs = log_softmax(logits)
    total = -np.inf
    for labelling in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        collapsed = [symbol for symbol, _ in itertools.groupby(labelling) if symbol != blank]
        if collapsed == list(targets):
            total = np.logaddexp(total, sum(log_probs[t, v] for t, v in enumerate(labelling)))
    return -float(total)
