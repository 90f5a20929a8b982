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

from espnet_plugin.search.beam.state import put_rows, take_rows

# Rows a table may have: 4096 x 640 floats are 10 MB.
MAX_TABLE_ROWS = 4096


class PredictionCache(Protocol):
    """What a search needs of a prediction network; states have one row per hypothesis."""

    def start(self, rows: int) -> Any:
        """State of R rows before the first label."""
        ...

    def advance(self, state: Any, labels: Tensor, emitted: Tensor) -> Any:
        """Consume ``labels`` [R] in the rows where ``emitted`` [R] is true; others keep theirs."""
        ...

    def projected(self, state: Any) -> Tensor:
        """Output of the network behind the joint's projection [R, J]."""
        ...

    def context_key(self, state: Any, history_key: Tensor) -> Tensor:
        """[R] int64, equal for hypotheses the prediction network cannot tell apart."""
        ...


class ContextCode:
    """The state [R] of a limited context: the number that its labels form in base V."""

    def __init__(
        self, prediction: Any, joint: Any, vocab_size: int, blank: int, context: int
    ) -> None:
        self._prediction, self._joint = prediction, joint
        self._vocab_size, self._device = vocab_size, joint.output.weight.device
        self._powers: list[int] = [
            vocab_size**i for i in reversed(range(context))
        ]  # newest label last
        self._start = blank * sum(self._powers)

    def start(self, rows: int) -> Tensor:
        return torch.full((rows,), self._start, device=self._device)

    def advance(self, state: Tensor, labels: Tensor, emitted: Tensor) -> Tensor:
        longer = state % self._powers[0] * self._vocab_size + labels  # the oldest label drops out
        return torch.where(emitted, longer, state)

    def context_key(self, state: Tensor, history_key: Tensor) -> Tensor:
        return state

    @property
    def oldest_power(self) -> int:
        """V^(k-1): what the oldest label counts."""
        return self._powers[0]

    def computed(self, codes: Tensor) -> Tensor:
        """Outputs behind the joint's projection for states [N], by the network itself. [N, J]"""
        labels = self._labels(codes)
        rows: Tensor = self._joint.prediction_proj(self._prediction.forward_context(labels))
        return rows

    def _labels(self, state: Tensor) -> Tensor:
        """[N] -> [N, k]."""
        return state[:, None] // torch.tensor(self._powers, device=state.device) % self._vocab_size


class TableCache(ContextCode):
    """All V^k contexts at once."""

    def __init__(
        self, prediction: Any, joint: Any, vocab_size: int, blank: int, context: int
    ) -> None:
        super().__init__(prediction, joint, vocab_size, blank, context)
        codes = torch.arange(vocab_size**context, device=self._device)
        self._table = self.computed(codes)  # [V^k, J]

    def projected(self, state: Tensor) -> Tensor:
        return self._table.index_select(0, state)


class ContextCache(ContextCode):
    """Rows are computed on first sight of their context."""

    def __init__(self, prediction: Any, joint: Any, vocab_size: int, blank: int) -> None:
        if vocab_size**prediction.context >= 2**63:
            raise ValueError(
                f"{vocab_size} labels with context {prediction.context} do not fit the context "
                "code of 63 bits; use a shorter context or the recurrent prediction network"
            )
        super().__init__(prediction, joint, vocab_size, blank, prediction.context)
        device = self._device
        self._codes = torch.empty(0, dtype=torch.int64, device=device)  # sorted
        self._row_of_code = torch.empty(0, dtype=torch.int64, device=device)
        self._rows = torch.empty(0, joint.output.weight.shape[1], device=device)
        self._compute(self.start(1))

    def projected(self, state: Tensor) -> Tensor:
        place, known = self._find(state)
        if not bool(known.all()):
            self._compute(torch.unique(state[~known]))
            place, _ = self._find(state)
        return self._rows.index_select(0, self._row_of_code.index_select(0, place))

    def _find(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Places of codes [R] in the sorted list, and which of them are in it."""
        place = torch.searchsorted(self._codes, codes).clamp_max_(self._codes.shape[0] - 1)
        return place, self._codes.index_select(0, place) == codes

    def _compute(self, missing: Tensor) -> None:
        """Rows of new codes."""
        rows = self.computed(missing)
        numbers = torch.arange(len(missing), device=missing.device) + len(self._rows)
        self._rows = torch.cat([self._rows.to(rows), rows])
        self._codes, order = torch.cat([self._codes, missing]).sort()
        self._row_of_code = torch.cat([self._row_of_code, numbers])[order]


class RecurrentCache:
    """State gathering for networks with unlimited context; a state is (output, network state)."""

    def __init__(self, prediction: Any, joint: Any, blank: int) -> None:
        self._prediction, self._joint, self._blank = prediction, joint, blank

    def start(self, rows: int) -> tuple[Tensor, Any]:
        device = self._joint.output.weight.device
        labels = torch.full((rows,), self._blank, device=device)
        out, state = self._prediction.step(labels, self._prediction.initial_state(rows, device))
        return self._joint.prediction_proj(out), state

    def advance(
        self, state: tuple[Tensor, Any], labels: Tensor, emitted: Tensor
    ) -> tuple[Tensor, Any]:
        rows = emitted.nonzero().flatten()  # most frames emit nothing: compute only what is new
        if rows.numel() == 0:
            return state
        out, new = self._prediction.step(labels[rows], take_rows(state[1], rows))
        advanced: tuple[Tensor, Any] = put_rows(
            state, rows, (self._joint.prediction_proj(out), new)
        )
        return advanced

    def projected(self, state: tuple[Tensor, Any]) -> Tensor:
        return state[0]

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
    if network.context > 1 and vocab_size**network.context > max_rows:
        return ContextCache(network, joint_network, vocab_size, blank)
    return TableCache(network, joint_network, vocab_size, blank, network.context)
