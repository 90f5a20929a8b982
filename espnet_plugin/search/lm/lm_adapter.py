"""ESPnet's language models (LSTM, Transformer, ...) as scorers of the beam search.

Any object with ESPnet's batched scorer method fits, nothing of ESPnet is imported:

    batch_score(prefixes [n, L], states, memories) -> (log-probabilities [n, V], states)

with one state object per prefix, None at the beginning. Such states are no tensors of fixed size
(a Transformer's grow), so a hypothesis carries only the number of its prefix, and the states stay
in a store that lives for one search.

Shapes: R rows (hypotheses), n prefixes, L prefix length, V vocabulary with blank.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class _Prefix:
    tokens: tuple[int, ...]
    parent_state: Any  # the model's state before the last token
    state: Any = None
    final: float | None = None  # log p(end of sentence); None until evaluated


class LmAdapter:
    """A :class:`~espnet_plugin.search.beam.scorers.LabelScorer` around an ESPnet language model.

    Args:
        lm: The model (``lm.batch_score``), in evaluation mode, over the transducer's token list.
        eos: Index of ESPnet's ``<sos/eos>``, by default the last token.
        device: Where the model is.
    """

    def __init__(self, lm: Any, vocab_size: int, *, eos: int | None = None, device: Any = None):
        self._lm = lm
        self._eos = vocab_size - 1 if eos is None else eos
        self._device = torch.device(device or "cpu")
        self._store: list[_Prefix] = []

    def start(self, rows: int) -> Tensor:
        """See :class:`LabelScorer`. Forgets all prefixes of earlier searches."""
        self._store = [_Prefix((self._eos,), None)]
        return torch.zeros(rows, dtype=torch.int64, device=self._device)

    def advance(self, state: Tensor, labels: Tensor) -> Tensor:
        """See :class:`LabelScorer`. Notes the longer prefixes; no network runs."""
        first = len(self._store)
        known: dict[tuple[int, int], int] = {}
        result = []
        for number, label in zip(state.tolist(), labels.tolist(), strict=True):
            if (number, label) not in known:
                known[number, label] = first + len(known)
                parent = self._store[number]
                assert parent.final is not None, "advance() before score()"
                self._store.append(_Prefix((*parent.tokens, label), parent.state))
            result.append(known[number, label])
        return torch.tensor(result, device=self._device)

    def score(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`LabelScorer`. Evaluates each distinct prefix once, same lengths together."""
        numbers = state.tolist()
        by_length: dict[int, list[int]] = defaultdict(list)
        for number in dict.fromkeys(numbers):
            by_length[len(self._store[number].tokens)].append(number)
        rows: dict[int, Tensor] = {}
        for group in by_length.values():
            for number, log_probs in zip(group, self._evaluate(group), strict=True):
                rows[number] = log_probs
        return torch.stack([rows[number] for number in numbers]), state

    @torch.no_grad()
    def _evaluate(self, numbers: list[int]) -> Tensor:
        prefixes = [self._store[number] for number in numbers]
        tokens = torch.tensor([p.tokens for p in prefixes], device=self._device)  # [n, L]
        memories = torch.zeros(len(prefixes), 0, device=self._device)
        log_probs: Tensor
        log_probs, states = self._lm.batch_score(
            tokens, [p.parent_state for p in prefixes], memories
        )
        finals = log_probs[:, self._eos].tolist()
        for prefix, new_state, final in zip(prefixes, states, finals, strict=True):
            prefix.state, prefix.final = new_state, final
        # The end of the sentence is no label: it may only be scored by final().
        log_probs = log_probs.clone()
        log_probs[:, self._eos] = float("-inf")
        return log_probs

    def final(self, state: Tensor) -> Tensor:
        """See :class:`LabelScorer`."""
        values = [self._store[number].final for number in state.tolist()]
        return torch.tensor([0.0 if v is None else v for v in values], device=self._device)

    def key(self, state: Tensor) -> None:
        """See :class:`LabelScorer`: a neural model remembers everything."""
        return None
