"""Recombination: hypotheses that are the same from here on become one.

Shapes: B utterances, M candidates of each.
"""

from __future__ import annotations

import torch
from torch import Tensor

SEMIRINGS = ("full_sum", "max")
NEG_INF = float("-inf")


def combine(first: Tensor, second: Tensor, semiring: str) -> Tensor:
    """Sum of two paths' scores: log-add for ``full_sum``, the better one for ``max``."""
    if semiring == "full_sum":
        return torch.logaddexp(first, second)
    return torch.maximum(first, second)


def recombine(scores: Tensor, keys: Tensor, semiring: str) -> Tensor:
    """Move the mass of equal keys to the best of them. [B, M], [B, M] -> scores [B, M].

    The others get -inf. Ties are won by the lower index.
    """
    # Best first, then by key: each run of equal keys begins with its best member.
    by_score = scores.argsort(dim=1, descending=True, stable=True)
    order = by_score.gather(1, keys.gather(1, by_score).argsort(dim=1, stable=True))
    sorted_keys, sorted_scores = keys.gather(1, order), scores.gather(1, order)
    begins = torch.ones_like(sorted_keys, dtype=torch.bool)
    begins[:, 1:] = sorted_keys[:, 1:] != sorted_keys[:, :-1]
    total = sorted_scores
    if semiring == "full_sum":
        run = begins.long().cumsum(1) - 1  # [B, M] number of the run
        best = torch.full_like(scores, NEG_INF).scatter_reduce(1, run, total, "amax")
        best = best.gather(1, run).clamp_min(torch.finfo(scores.dtype).min)
        share = torch.zeros_like(scores).scatter_add(1, run, (total - best).exp())
        total = best + share.gather(1, run).log()
    total = total.masked_fill(~begins | (sorted_scores == NEG_INF), NEG_INF)
    return torch.empty_like(scores).scatter_(1, order, total)


def stable_topk(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``scores.topk(count, 1)``, but ties are won by the lower index. [B, M] -> [B, count] each.

    torch's choice among equals changes with M, and so with what else is in a batch. NaN is worst.
    """
    scores = scores.masked_fill(scores.isnan(), NEG_INF)
    last = scores.topk(count, 1).values[:, -1:]
    equal = scores == last
    better = scores > last
    free = count - better.sum(1, keepdim=True)
    kept = better | (equal & (equal.cumsum(1) <= free))  # ``count`` in each row
    index = kept.nonzero()[:, 1].view(len(scores), count)
    values, order = scores.gather(1, index).sort(dim=1, descending=True, stable=True)
    return values, index.gather(1, order)


def recombine_two(
    first: Tensor, second: Tensor, first_keys: Tensor, second_keys: Tensor, semiring: str
) -> Tensor:
    """The same for two groups without equal keys inside: [B, M], [B, N] -> scores [B, M + N].

    Free places (-inf) may have any key.
    """
    same = first_keys[:, :, None] == second_keys[:, None, :]  # [B, M, N]
    of_first = torch.where(same, second[:, None, :], NEG_INF).amax(2)  # [B, M] the equal's score
    of_second = torch.where(same, first[:, :, None], NEG_INF).amax(1)  # [B, N]
    first_total = combine(first, of_first, semiring).masked_fill(of_first > first, NEG_INF)
    second_total = combine(second, of_second, semiring).masked_fill(of_second >= second, NEG_INF)
    return torch.cat([first_total, second_total], 1)
