"""Several word-level language models in one lexicon search, each with its scale.

    log p(w | s) = Σ_i λ_i log p_i(w | s_i)

A negative scale makes the density ratio, or LODR, of the internal language model's subtraction.
The states of all models are one number, with as many bits for each as its states need.

Shapes: M pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from espnet_plugin.search.lexicon.word_lm import WordScorer
from espnet_plugin.search.scaling import scaled

BITS = 62  # of a state's number
FEWEST_BITS = 8  # for a model whose states are numbered as they appear


class WordMixture:
    """A scaled sum of word models as one :class:`~espnet_plugin.search.lexicon.word_lm.WordScorer`.

    To be used with an ``lm_scale`` of 1.

    Raises:
        ValueError: No model, or models with too many states for one number of 62 bits; of models
            whose states are numbered as they appear (KenLM's), while searching.
    """

    def __init__(self, models: Sequence[tuple[WordScorer, float]]) -> None:
        if not models:
            raise ValueError("a mixture of word models needs at least one")
        self._models = list(models)
        counts = [model.states for model, _ in models]
        known = sum(count.bit_length() for count in counts if count is not None)
        free = (BITS - known) // max(1, counts.count(None))
        if known > BITS or (None in counts and free < FEWEST_BITS):
            raise ValueError(
                f"{len(counts)} word models of this size are too many at once (numbers of states: "
                f"{counts}); leave one out, or prune the n-grams"
            )
        self._bits = [free if count is None else count.bit_length() for count in counts]
        self._shifts = [sum(self._bits[:i]) for i in range(len(counts))]

    @property
    def states(self) -> None:
        """See :class:`WordScorer`."""
        return None

    def _split(self, state: Tensor) -> list[Tensor]:
        pairs = zip(self._bits, self._shifts, strict=True)
        return [(state >> shift) & ((1 << bits) - 1) for bits, shift in pairs]

    def _join(self, states: Sequence[Tensor]) -> Tensor:
        joined = torch.zeros_like(states[0])
        for state, bits, shift in zip(states, self._bits, self._shifts, strict=True):
            if state.numel() and int(state.max()) >> bits:
                raise ValueError(
                    f"a word model has come to more than the {1 << bits} states that there is "
                    f"room for beside {len(states) - 1} others; search with fewer of them"
                )
            joined |= state << shift
        return joined

    def _one(self, states: Sequence[int]) -> int:
        return int(self._join([torch.tensor(state) for state in states]))

    def start_state(self) -> int:
        """See :class:`WordScorer`."""
        return self._one([model.start_state() for model, _ in self._models])

    def empty_state(self) -> int:
        """See :class:`WordScorer`."""
        return self._one([model.empty_state() for model, _ in self._models])

    def lookup(self, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`WordScorer`."""
        total, after = torch.zeros(len(state), device=state.device), []
        for (model, scale), own in zip(self._models, self._split(state), strict=True):
            log_prob, following = model.lookup(own, word)
            total = total + scaled(log_prob, scale)
            after.append(following)
        return total, self._join(after)

    def final(self, state: Tensor) -> Tensor:
        """See :class:`WordScorer`."""
        total = torch.zeros(len(state), device=state.device)
        for (model, scale), own in zip(self._models, self._split(state), strict=True):
            total = total + scaled(model.final(own), scale)
        return total
