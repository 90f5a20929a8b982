"""Choosing language-model scales on the development set, from N-best lists.

The lists are made once, with moderate scales; every combination of the grid only sorts them anew.
That is exact as long as the best hypothesis under the new scales is in the list, so search again
with the chosen scales before believing the error rate.

Shapes: N hypotheses, P score parts, G combinations of scales.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_plugin.search.hypothesis import Hypothesis
from espnet_plugin.search.levenshtein import levenshtein
from espnet_plugin.search.scaling import NEG_INF


@dataclass(frozen=True)
class ScalePoint:
    """One combination of scales and what it costs.

    Attributes:
        lm_scales: One per language model.
        ilm_scale: What the internal LM is subtracted with.
        errors: Levenshtein distance summed over all utterances.
        total: Units in the references.
    """

    lm_scales: tuple[float, ...]
    ilm_scale: float
    errors: int
    total: int

    @property
    def rate(self) -> float:
        """Errors per reference unit."""
        return self.errors / self.total


def search_scales(
    nbest: Sequence[Sequence[Hypothesis]],
    references: Sequence[Sequence[Hashable]],
    lm_grid: Sequence[Sequence[float]],
    ilm_grid: Sequence[float] = (0.0,),
    *,
    units: Callable[[Hypothesis], Sequence[Hashable]] = lambda h: h.words or h.tokens,
    pronunciation_scale: float = 0.0,
) -> list[ScalePoint]:
    """Error counts of all combinations, the best first; ties are won by smaller scales.

    Args:
        nbest: Lists of all development utterances.
        references: What was said, in the same units as ``units`` gives.
        lm_grid: The scales to try for each language model.
        ilm_grid: The scales to try for the internal LM (lists made with an ``ilm_scale``).
        units: What errors are counted in: by default words if there are any, else labels.
        pronunciation_scale: Kept fixed.

    Raises:
        ValueError: Numbers of lists and references or of grids and models that differ, no
            reference units at all, or an empty list.
    """
    if len(nbest) != len(references):
        raise ValueError(f"{len(nbest)} N-best lists for {len(references)} references")
    total = sum(map(len, references))
    if total == 0 or not all(nbest):
        raise ValueError("the references hold no unit, or an utterance has no hypothesis")
    models = {len(h.lm_scores) for hypotheses in nbest for h in hypotheses}
    if models != {len(lm_grid)}:
        raise ValueError(f"grids for {len(lm_grid)} language models, lists with {sorted(models)}")
    errors = [
        [levenshtein(units(h), reference) for h in hypotheses]
        for hypotheses, reference in zip(nbest, references, strict=True)
    ]
    combinations = list(itertools.product(ilm_grid, *lm_grid))
    scales = torch.tensor([(1.0, pronunciation_scale, -c[0], *c[1:]) for c in combinations])
    counts = _count_errors(nbest, errors, scales.double())
    points = [
        ScalePoint(tuple(lm_scales), ilm_scale, count, total)
        for (ilm_scale, *lm_scales), count in zip(combinations, counts, strict=True)
    ]
    return sorted(points, key=lambda p: (p.errors, sum(map(abs, p.lm_scales)), abs(p.ilm_scale)))


def _count_errors(
    nbest: Sequence[Sequence[Hypothesis]], errors: Sequence[Sequence[int]], scales: Tensor
) -> list[int]:
    """Errors of the best hypotheses under each row of ``scales`` [G, P]."""
    counts = torch.zeros(len(scales), dtype=torch.int64)
    for hypotheses, costs in zip(nbest, errors, strict=True):
        parts = torch.tensor(
            [(h.am_score, h.pronunciation_score, h.ilm_score, *h.lm_scores) for h in hypotheses],
            dtype=torch.float64,
        )  # [N, P]
        impossible = parts == NEG_INF
        totals = parts.masked_fill(impossible, 0.0) @ scales.T  # [N, G]
        totals[impossible.any(1)] = NEG_INF
        best = (totals == totals.amax(0)).int().argmax(0)  # of equals, the first
        counts += torch.tensor(costs)[best]
    return [int(count) for count in counts]
