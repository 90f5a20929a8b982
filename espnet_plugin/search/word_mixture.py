"""Several word-level language models in one lexicon search, each with its scale.

    log p(w | s) = Σ_i λ_i log p_i(w | s_i)

A negative scale makes the density ratio, or LODR, of the internal language model's subtraction.
The state of all models is one number: Σ_i s_i · 2^(62/n · i).

Shapes: M pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from espnet_plugin.search.word_lm import WordScorer


class WordMixture:
    """A scaled sum of word models as one :class:`~espnet_plugin.search.word_lm.WordScorer`.

    To be used with an ``lm_scale`` of 1.

    Raises:
        ValueError: No model.
    """

    def __init__(self, models: Sequence[tuple[WordScorer, float]]) -> None:
        if not models:
            raise ValueError("a mixture of word models needs at least one")
        self._models = list(models)
        self._bits = 62 // len(self._models)

    def _split(self, state: Tensor) -> list[Tensor]:
        mask = (1 << self._bits) - 1
        return [(state >> (self._bits * i)) & mask for i in range(len(self._models))]

    def _join(self, states: Sequence[int]) -> int:
        if max(states) >> self._bits:
            raise ValueError(f"{len(states)} word models of this size are too many at once")
        return sum(state << (self._bits * i) for i, state in enumerate(states))

    def start_state(self) -> int:
        """See :class:`WordScorer`."""
        return self._join([model.start_state() for model, _ in self._models])

    def empty_state(self) -> int:
        """See :class:`WordScorer`."""
        return self._join([model.empty_state() for model, _ in self._models])

    def lookup(self, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`WordScorer`."""
        total = torch.zeros(len(state), device=state.device)
        joined = torch.zeros_like(state)
        for i, ((model, scale), own) in enumerate(
            zip(self._models, self._split(state), strict=True)
        ):
            log_prob, following = model.lookup(own, word)
            total = total + scale * log_prob
            joined = joined | (following << (self._bits * i))
        return total, joined

    def final(self, state: Tensor) -> Tensor:
        """See :class:`WordScorer`."""
        total = torch.zeros(len(state), device=state.device)
        for (model, scale), own in zip(self._models, self._split(state), strict=True):
            total = total + scale * model.final(own)
        return total
