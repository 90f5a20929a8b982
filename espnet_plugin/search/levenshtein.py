"""Levenshtein distance of token sequences: the risk of minimum-Bayes-risk training."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def levenshtein(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Fewest substitutions, deletions and insertions that turn one sequence into the other."""
    start, end_a, end_b = 0, len(first), len(second)
    # Equal ends never cost anything and N-best entries mostly share them.
    while start < end_a and start < end_b and first[start] == second[start]:
        start += 1
    while end_a > start and end_b > start and first[end_a - 1] == second[end_b - 1]:
        end_a, end_b = end_a - 1, end_b - 1
    columns = second[start:end_b]
    row = list(range(len(columns) + 1))
    for i, item in enumerate(first[start:end_a], 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(columns, 1):
            cost = diagonal if item == other else 1 + min(diagonal, row[j], row[j - 1])
            diagonal, row[j] = row[j], cost
    return row[-1]


def label_risk(hypothesis: Sequence[int], reference: Sequence[int]) -> int:
    """R(a, a_ref) of method.md's stage 3: label-level Levenshtein distance."""
    return levenshtein(hypothesis, reference)
