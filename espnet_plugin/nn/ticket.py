"""A smaller model of the feed-forward units that a search with `slim` left large (2101.00063).

The same number of units is kept in every layer, so that the result is an ordinary conformer.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.nn.accelerators.base import seeded_generator

RANKS = ("coefficient", "norm", "random")
#: The ticket exists where this many successive distances between masks are below this (arXiv
#: 1909.11957, section 4).
CHECKS, DISTANCE = 5, 0.1


def draw_ticket(
    states: Mapping[str, Tensor],
    private: Mapping[str, Any],
    units: int,
    rank: str = "coefficient",
    seed: int = 0,
) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Parameters of the smaller model.

    Args:
        states: of the model after the search, coefficients multiplied into w_2.
        private: state of `slim`.
        units: kept of every feed-forward layer.
        rank: by what units are compared: "coefficient", |c|; "norm", |c| times the norm of the
            unit's column of w_2; "random", the control.
        seed: of "random".

    Returns:
        A state dict, and the units kept of each layer, in their old order.

    Raises:
        ValueError: a layer has no more units than are to be kept, or `rank` is another.
    """
    if rank not in RANKS:
        raise ValueError(f"ticket.rank must be one of {', '.join(RANKS)}; got {rank!r}")
    small, kept = dict(states), {}
    for number, (name, layer) in enumerate(private["layers"].items()):
        second = states[f"{name}.w_2.weight"]  # [D, U]
        if units >= second.size(1):
            raise ValueError(f"ticket.units {units}: {name} has {second.size(1)} units; keep fewer")
        if rank == "coefficient":
            score = layer["coefficient"].abs().to(second.device)
        elif rank == "norm":
            score = second.norm(dim=0)
        else:
            score = torch.rand(second.size(1), generator=seeded_generator(seed, number))
        chosen = largest(score, units)
        kept[name] = chosen.tolist()
        small[f"{name}.w_1.weight"] = states[f"{name}.w_1.weight"][chosen].clone()
        small[f"{name}.w_1.bias"] = states[f"{name}.w_1.bias"][chosen].clone()
        small[f"{name}.w_2.weight"] = second[:, chosen].clone()
    return small, kept


def largest(score: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest of score [U], ascending; of equal ones the first."""
    return score.argsort(descending=True, stable=True)[:count].sort().values


def mask_distances(notes: Mapping[int, Sequence[Tensor]], units: int) -> list[float]:
    """Share of all units of which two successive notes of `slim` say different things."""
    masks = []
    for _, layers in sorted(notes.items()):
        mask = []
        for magnitudes in layers:
            kept = torch.zeros(len(magnitudes), dtype=torch.bool)
            kept[largest(magnitudes, units)] = True
            mask.append(kept)
        masks.append(torch.cat(mask))
    pairs = itertools.pairwise(masks)
    return [(one != other).float().mean().item() for one, other in pairs]


def has_settled(distances: Sequence[float]) -> bool:
    """Whether the search ended with distances that small, that often."""
    return len(distances) >= CHECKS and all(d < DISTANCE for d in distances[-CHECKS:])
