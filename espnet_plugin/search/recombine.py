"""Recombination: hypotheses that are the same from here on become one.

Shapes: B utterances, M candidates of each.
"""

from __future__ import annotations

import torch
from torch import Tensor

SEMIRINGS = ("full_sum", "max")


def combine(first: Tensor, second: Tensor, semiring: str) -> Tensor:
    """Sum of two paths' scores: log-add for ``full_sum``, the better one for ``max``."""
    if semiring == "full_sum":
        return torch.logaddexp(first, second)
    return torch.maximum(first, second)


def recombine(scores: Tensor, keys: Tensor, semiring: str) -> Tensor:
    """Move the mass of equal keys to the best of them. [B, M], [B, M] -> scores [B, M].

    The others get -inf. Ties are won by the lower index.
    """
    equal = keys[:, :, None] == keys[:, None, :]  # [B, M, M]
    theirs = scores[:, None, :].expand_as(equal)
    mine = scores[:, :, None]
    order = torch.arange(scores.shape[1], device=scores.device)
    earlier = order[None, :] < order[:, None]  # [M, M]
    beaten = (equal & ((theirs > mine) | ((theirs == mine) & earlier))).any(2)  # [B, M]
    masked = theirs.masked_fill(~equal, float("-inf"))
    total = masked.logsumexp(2) if semiring == "full_sum" else masked.amax(2)
    return total.masked_fill(beaten, float("-inf"))
