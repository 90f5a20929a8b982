"""The models of a search as rows of arrays, computed when the compiled loops ask for them.

Prediction network, internal LM and language models together are one automaton: a state has the
projected output of the prediction network, the scorers' log-probabilities of the next label, and a
state after each label. Two kinds:

- :class:`CodedStates`: limited context, no language models: a state is the context's code, and the
  next one is arithmetic. Rows outlive an utterance.
- :class:`LinkedStates`: everything else; states are numbers, and the loops ask for the one after a
  label when they first go there.

Shapes: N rows, F of them new, J joint size, V vocabulary with blank, P scorers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_plugin.search.beam.compiled.layout import CLOCK, LINKED, NOT_EVALUATED, NOTES_SIZE
from espnet_plugin.search.beam.compiled.table import HashTable
from espnet_plugin.search.beam.prediction_cache import (
    ContextCode,
    PredictionCache,
    RecurrentCache,
)
from espnet_plugin.search.beam.scorer_set import ScorerSet
from espnet_plugin.search.beam.state import map_state, take_rows

# Rows kept from one utterance to the next.
MAX_KEPT_FLOATS = 16_000_000


class _Rows:
    """Arrays that grow: what the loops read of each state."""

    oldest: int  # see `layout.OLDEST`

    def __init__(self, scorers: ScorerSet, joint: Any) -> None:
        self._scorers = scorers
        self._vocab, self._joint_size = joint.output.weight.shape
        self._kind = torch.empty(0, dtype=joint.output.weight.dtype).numpy().dtype
        self.table = HashTable()
        self._clear()

    def _clear(self) -> None:
        parts = len(self._scorers)
        self._used = 0
        self.table.clear()
        self.projected = np.empty((0, self._joint_size), self._kind)
        self.bonus = np.empty((0, self._vocab if parts else 0), self._kind)
        self.parts = np.empty((0, parts, self._vocab if parts else 0), self._kind)
        self.row_notes = np.empty((0, NOTES_SIZE), np.int64)
        self._reserve(64)

    def _reserve(self, rows: int) -> None:
        """Room for so many."""
        for name in ("projected", "bonus", "parts", "row_notes"):
            old = getattr(self, name)
            new = np.zeros((rows, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def _new_rows(self, many: int) -> Any:
        """Numbers [F] of new rows, not evaluated yet."""
        rows = np.arange(self._used, self._used + many)
        self._used += many
        if self._used > len(self.row_notes):
            self._reserve(max(self._used, 2 * len(self.row_notes)))
        self.row_notes[rows, CLOCK] = NOT_EVALUATED
        return rows

    def _fill(self, rows: Any, projected: Tensor, scorer_states: Any) -> Any:
        """Outputs of the models for rows [F]; returns the scorers' states."""
        self.projected[rows] = projected.numpy()
        self.row_notes[rows, CLOCK] = -1
        if not len(self._scorers):
            return scorer_states
        parts, bonus, new = self._scorers.next_label(projected, scorer_states, projected)
        self.parts[rows], self.bonus[rows] = parts.numpy(), bonus.numpy()
        return new

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What the loops are given; other arrays after each event."""
        table = self.table.keys, self.table.values
        return self.projected, self.bonus, self.parts, self.row_notes, *table


class CodedStates(_Rows):
    """Contexts of k labels, as `prediction_cache.ContextCode` numbers them."""

    def __init__(self, cache: ContextCode, scorers: ScorerSet, joint: Any) -> None:
        super().__init__(scorers, joint)
        self._cache, self.oldest = cache, cache.oldest_power

    def begin(self) -> int:
        """A new utterance: the code of its first state."""
        if sum(array.size for array in self.arrays[:3]) > MAX_KEPT_FLOATS:
            self._clear()
        return int(self._cache.start(1))

    def evaluate(self, codes: Any) -> None:
        """Rows for codes that were asked for."""
        codes = np.unique(codes)
        rows = self._new_rows(len(codes))
        self.table.add(codes, rows)
        self._fill(rows, self._cache.computed(torch.from_numpy(codes)), ())

    def scorer_states(self, codes: Any) -> tuple[Any, ...]:
        """There are none."""
        return ()

    def link(self, codes: Any, labels: Any, evaluate: bool) -> None:
        """Never asked for: the next code is arithmetic."""
        raise AssertionError("states of a limited context need no links")


class LinkedStates(_Rows):
    """States that are numbered as they appear, new ones for each utterance."""

    oldest = LINKED

    def __init__(self, cache: PredictionCache, scorers: ScorerSet, joint: Any) -> None:
        super().__init__(scorers, joint)
        self._cache = cache

    def begin(self) -> int:
        """A new utterance: the number of its first state. Models may forget earlier searches."""
        self._clear()
        self._number: dict[tuple[int, ...], int] = {}
        self._prediction, self._scoring = _StateRows(), _StateRows()
        state = self._cache.start(1), self._scorers.start(1)
        return int(self._numbered(*state, 1)[0])

    def _numbered(self, prediction: Any, scoring: Any, many: int) -> Any:
        """Numbers [F] of states; equal ones get the same, where the models can tell."""
        recurrent = isinstance(self._cache, RecurrentCache)
        keys = self._scorers.keys(scoring)
        if not recurrent:
            keys.append(self._cache.context_key(prediction, torch.empty(0)))
        known = [key.tolist() for key in keys if key is not None]
        if recurrent or len(known) < len(keys):
            numbers, new = self._new_rows(many), list(range(many))
        else:
            tuples = list(zip(*known, strict=True))
            found = dict.fromkeys(t for t in tuples if t not in self._number)
            rows = self._new_rows(len(found))
            self._number.update(zip(found, rows.tolist(), strict=True))
            numbers = np.array([self._number[t] for t in tuples])
            new = [tuples.index(t) for t in found]
        picked = torch.tensor(new, dtype=torch.int64)
        self._prediction.add(take_rows(prediction, picked))
        self._scoring.add(take_rows(scoring, picked))
        return numbers

    def link(self, codes: Any, labels: Any, evaluate: bool) -> None:
        """States after labels; evaluated at once if all of them are going to be wanted."""
        pairs = np.unique(codes * self._vocab + labels)
        parents, after = (torch.from_numpy(part) for part in np.divmod(pairs, self._vocab))
        emitted = torch.ones_like(after, dtype=torch.bool)
        before = self._used
        prediction = self._cache.advance(self._prediction.take(parents), after, emitted)
        scoring = self._scorers.advance(self._scoring.take(parents), after, emitted)
        numbers = self._numbered(prediction, scoring, len(pairs))
        self.table.add(pairs, numbers)
        if evaluate and self._used > before:
            self.evaluate(np.arange(before, self._used))

    def evaluate(self, codes: Any) -> None:
        """Outputs of the models for states that were asked for."""
        codes = np.unique(codes)
        rows = torch.from_numpy(codes)
        projected = self._cache.projected(self._prediction.take(rows))
        self._scoring.put(rows, self._fill(codes, projected, self._scoring.take(rows)))

    def scorer_states(self, codes: Any) -> tuple[Any, ...]:
        """The language models' states [len(codes), ...], all of them evaluated."""
        missing = codes[self.row_notes[codes, CLOCK] == NOT_EVALUATED]
        if len(missing):
            self.evaluate(missing)
        taken: tuple[Any, ...] = self._scoring.take(torch.from_numpy(codes))
        return taken


class _StateRows:
    """Nested tuples of tensors [N, ...] that grow row by row."""

    def __init__(self) -> None:
        self._state: Any = None
        self._used = self._room = 0

    def add(self, new: Any) -> None:
        """More rows [F, ...] behind."""
        many = _count(new)
        if many is None:  # no models
            self._state = new
            return
        begin, self._used = self._used, self._used + many
        if self._used > self._room:
            self._room = max(64, 2 * self._used)
            old = self._state
            self._state = map_state(new, lambda part: part.new_empty(self._room, *part.shape[1:]))
            if begin:
                _copy(self._state, map_state(old, lambda part: part[:begin]), slice(0, begin))
        _copy(self._state, new, slice(begin, self._used))

    def take(self, rows: Tensor) -> Any:
        """[F] -> [F, ...]."""
        return take_rows(self._state, rows)

    def put(self, rows: Tensor, new: Any) -> None:
        """Rows [F] replaced."""
        _copy(self._state, new, rows)


def _count(state: Any) -> int | None:
    """F of nested tuples of tensors [F, ...]; None if there is no tensor."""
    if isinstance(state, tuple):
        return next((many for part in state if (many := _count(part)) is not None), None)
    return None if state is None else len(state)


def _copy(state: Any, new: Any, where: Any) -> None:
    if isinstance(state, tuple):
        for part, source in zip(state, new, strict=True):
            _copy(part, source, where)
    elif state is not None:
        state[where] = new.to(state.dtype)


def make_states(
    cache: PredictionCache, scorers: ScorerSet, joint: Any
) -> CodedStates | LinkedStates:
    """The cheaper kind that fits."""
    if isinstance(cache, ContextCode) and not scorers.has_language_models:
        return CodedStates(cache, scorers, joint)
    return LinkedStates(cache, scorers, joint)
