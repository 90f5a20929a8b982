"""Prediction-network outputs for the hypotheses of a beam, computed once per distinct context.

A search only ever needs g_s after the joint network's own projection, so that is what is kept: one
row of size J per hypothesis. Three ways to get it:

- :class:`TableCache`: limited context and few enough contexts (k = 1 always is): all V^k rows
  are computed up front, a search step is an index into the table.
- :class:`ContextCache`: limited context, many contexts: rows are computed when a context is first
  seen and kept for the rest of the search.
- :class:`RecurrentCache`: unlimited context (LSTM): the states travel with the hypotheses.

Shapes: R rows (any number of hypotheses), k context, J joint size, V vocabulary with blank.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from espnet_plugin.search.state import put_rows, take_rows

# Rows a table may have: 4096 x 640 floats are 10 MB.
MAX_TABLE_ROWS = 4096


class PredictionCache(Protocol):
    """What a search needs of a prediction network."""

    def start(self, rows: int) -> tuple[Tensor, Any]:
        """-> (projected output [R, J], state) before the first label."""
        ...

    def advance(
        self, projected: Tensor, state: Any, labels: Tensor, emitted: Tensor
    ) -> tuple[Tensor, Any]:
        """Consume ``labels`` [R] in the rows where ``emitted`` [R] is true; others keep theirs."""
        ...

    def context_key(self, state: Any, history_key: Tensor) -> Tensor:
        """[R] int64, equal for hypotheses the prediction network cannot tell apart."""
        ...


class TableCache:
    """All V^k contexts at once; a context is the number its labels form in base V."""

    def __init__(self, table: Tensor, vocab_size: int, blank: int, context: int) -> None:
        self._table = table  # [V^k, J]
        self._vocab_size = vocab_size
        self._contexts = vocab_size**context
        self._start = sum(blank * vocab_size**i for i in range(context))

    def start(self, rows: int) -> tuple[Tensor, Tensor]:
        code = torch.full((rows,), self._start, device=self._table.device)
        return self._table[code], code

    def advance(
        self, projected: Tensor, state: Tensor, labels: Tensor, emitted: Tensor
    ) -> tuple[Tensor, Tensor]:
        code = (state * self._vocab_size + labels) % self._contexts
        code = torch.where(emitted, code, state)
        return self._table.index_select(0, code), code

    def context_key(self, state: Tensor, history_key: Tensor) -> Tensor:
        return state


class ContextCache:
    """Contexts [R, k] as state; rows computed on first sight."""

    def __init__(self, prediction: Any, joint: Any, vocab_size: int, blank: int) -> None:
        self._prediction, self._joint = prediction, joint
        self._blank = blank
        device = joint.output.weight.device
        powers = [vocab_size**i for i in reversed(range(prediction.context))]
        if powers[0] * vocab_size >= 2**63:
            raise ValueError(
                f"{vocab_size} labels with context {prediction.context} do not fit the context "
                "code of 63 bits; use a shorter context or the recurrent prediction network"
            )
        self._powers = torch.tensor(powers, device=device)
        self._codes = torch.empty(0, dtype=torch.int64, device=device)  # sorted
        self._row_of_code = torch.empty(0, dtype=torch.int64, device=device)
        self._rows = torch.empty(0, joint.output.weight.shape[1], device=device)

    def start(self, rows: int) -> tuple[Tensor, Tensor]:
        contexts = torch.full((rows, len(self._powers)), self._blank, device=self._powers.device)
        return self._lookup(contexts), contexts

    def advance(
        self, projected: Tensor, state: Tensor, labels: Tensor, emitted: Tensor
    ) -> tuple[Tensor, Tensor]:
        shifted = torch.cat([state[:, 1:], labels[:, None]], dim=1)  # [R, k]
        state = torch.where(emitted[:, None], shifted, state)
        return self._lookup(state), state

    def context_key(self, state: Tensor, history_key: Tensor) -> Tensor:
        return (state * self._powers).sum(1)

    def _lookup(self, contexts: Tensor) -> Tensor:
        codes = (contexts * self._powers).sum(1)  # [R]
        place, known = self._find(codes)
        if not bool(known.all()):
            self._compute(torch.unique(codes[~known]))
            place, _ = self._find(codes)
        return self._rows.index_select(0, self._row_of_code[place])

    def _find(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Places of codes [R] in the sorted list, and which of them are in it."""
        if not len(self._codes):
            return codes, torch.zeros_like(codes, dtype=torch.bool)
        place = torch.searchsorted(self._codes, codes).clamp_max(len(self._codes) - 1)
        return place, self._codes[place] == codes

    def _compute(self, missing: Tensor) -> None:
        """Rows of new codes."""
        vocab_size = self._joint.output.weight.shape[0]
        labels = missing[:, None] // self._powers % vocab_size
        rows = self._joint.prediction_proj(self._prediction.forward_context(labels))
        numbers = torch.arange(len(missing), device=missing.device) + len(self._rows)
        self._rows = torch.cat([self._rows.to(rows), rows])
        self._codes, order = torch.cat([self._codes, missing]).sort()
        self._row_of_code = torch.cat([self._row_of_code, numbers])[order]


class RecurrentCache:
    """State gathering for networks with unlimited context."""

    def __init__(self, prediction: Any, joint: Any, blank: int) -> None:
        self._prediction, self._joint, self._blank = prediction, joint, blank

    def start(self, rows: int) -> tuple[Tensor, Any]:
        device = self._joint.output.weight.device
        labels = torch.full((rows,), self._blank, device=device)
        out, state = self._prediction.step(labels, self._prediction.initial_state(rows, device))
        return self._joint.prediction_proj(out), state

    def advance(
        self, projected: Tensor, state: Any, labels: Tensor, emitted: Tensor
    ) -> tuple[Tensor, Any]:
        rows = emitted.nonzero().flatten()  # most frames emit nothing: compute only what is new
        if rows.numel() == 0:
            return projected, state
        out, new = self._prediction.step(labels[rows], take_rows(state, rows))
        projected = projected.index_copy(0, rows, self._joint.prediction_proj(out).to(projected))
        return projected, put_rows(state, rows, new)

    def context_key(self, state: Any, history_key: Tensor) -> Tensor:
        return history_key


def require_evaluation_mode(*modules: nn.Module) -> None:
    """Dropout would make every search result a random one.

    Raises:
        ValueError: A module is in training mode.
    """
    for module in modules:
        if module.training:
            raise ValueError(
                f"{type(module).__name__} is in training mode: call model.eval() before searching"
            )


def make_prediction_cache(
    prediction: nn.Module, joint: nn.Module, *, blank: int = 0, max_rows: int = MAX_TABLE_ROWS
) -> PredictionCache:
    """The cheapest cache that is exact for this prediction network."""
    require_evaluation_mode(prediction, joint)
    network: Any = prediction
    joint_network: Any = joint
    vocab_size = joint_network.output.weight.shape[0]
    if network.context is None:
        return RecurrentCache(network, joint_network, blank)
    contexts = vocab_size**network.context
    if network.context > 1 and contexts > max_rows:
        return ContextCache(network, joint_network, vocab_size, blank)
    device = joint_network.output.weight.device
    codes = torch.arange(contexts, device=device)
    powers = torch.tensor([vocab_size**i for i in reversed(range(network.context))], device=device)
    labels = codes[:, None] // powers % vocab_size  # [V^k, k], newest last
    table = joint_network.prediction_proj(network.forward_context(labels))
    return TableCache(table, vocab_size, blank, network.context)
