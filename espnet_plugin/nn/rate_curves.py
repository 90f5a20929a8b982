"""The two learning-rate curves of the paper's set-ups, piecewise linear in the step.

A step is one optimizer update. Step 0 is the first update; the curve ends at `total_steps` and
stays at its last value beyond it, so a resumed or prolonged stage never sees a negative rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def piecewise_linear(step: float, knots: Sequence[tuple[float, float]]) -> float:
    """Value at `step` of the polygon through `knots` [(step, value), ...], constant outside.

    Raises:
        ValueError: if there is no knot or the steps of the knots decrease.
    """
    if not knots:
        raise ValueError("piecewise_linear needs at least one (step, value) knot")
    if any(right[0] < left[0] for left, right in pairwise(knots)):
        raise ValueError(f"knots must not decrease in their steps: {list(knots)}")
    if step <= knots[0][0]:
        return knots[0][1]
    for (x0, y0), (x1, y1) in pairwise(knots):
        if step < x1:
            return y0 + (y1 - y0) * (step - x0) / (x1 - x0)
    return knots[-1][1]


def _check(total_steps: float, fractions: Sequence[float], rates: Sequence[float]) -> None:
    if total_steps <= 0:
        raise ValueError(f"total_steps must be positive, got {total_steps}")
    if min(fractions) < 0 or sum(fractions) > 1 + 1e-9:
        raise ValueError(f"fractions must be >= 0 and sum to at most 1, got {list(fractions)}")
    if min(rates) < 0:
        raise ValueError(f"learning rates must be >= 0, got {list(rates)}")


def one_cycle_linear(
    step: float,
    *,
    total_steps: float,
    initial_lr: float,
    peak_lr: float,
    final_lr: float,
    up: float = 0.45,
    down: float = 0.45,
) -> float:
    """Stage 0/1: initial -> peak over `up`, back to initial over `down`, then to final (method.md).

    `up` and `down` are fractions of `total_steps`.

    Raises:
        ValueError: for fractions outside [0, 1] or summing above 1, negative rates, no steps.
    """
    _check(total_steps, (up, down), (initial_lr, peak_lr, final_lr))
    knots = [
        (0.0, initial_lr),
        (up * total_steps, peak_lr),
        ((up + down) * total_steps, initial_lr),
        (total_steps, final_lr),
    ]
    return piecewise_linear(step, knots)


def constant_linear_decay(
    step: float,
    *,
    total_steps: float,
    initial_lr: float,
    decayed_lr: float,
    final_lr: float,
    constant: float = 0.46,
    decay: float = 0.46,
) -> float:
    """Stage 2: constant over `constant`, linear to decayed over `decay`, then to final (method.md).

    `constant = 1` is stage 3's constant rate. Fractions are of `total_steps`.

    Raises:
        ValueError: for fractions outside [0, 1] or summing above 1, negative rates, no steps.
    """
    _check(total_steps, (constant, decay), (initial_lr, decayed_lr, final_lr))
    knots = [(0.0, initial_lr), (constant * total_steps, initial_lr)]
    if decay > 0:
        knots.append(((constant + decay) * total_steps, decayed_lr))
    if constant + decay < 1:
        knots.append((total_steps, final_lr))
    return piecewise_linear(step, knots)
