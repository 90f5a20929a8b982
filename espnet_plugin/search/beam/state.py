"""Gather and scatter of hypothesis states: tensors, or tuples of them, with a leading row axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


def map_state(state: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply ``function`` to every tensor of a nested tuple (None stays None)."""
    if state is None:
        return None
    if isinstance(state, tuple):
        return tuple(map_state(part, function) for part in state)
    return function(state)


def take_rows(state: Any, rows: Tensor) -> Any:
    """Rows ``rows`` [M] of every tensor [R, ...] -> [M, ...]."""
    return map_state(state, lambda part: part.index_select(0, rows))


def put_rows(state: Any, rows: Tensor, new: Any) -> Any:
    """``state`` with the rows ``rows`` replaced by ``new``; the input is left alone."""
    if state is None:
        return None
    if isinstance(state, tuple):
        return tuple(put_rows(a, rows, b) for a, b in zip(state, new, strict=True))
    return state.index_copy(0, rows, new.to(state.dtype))
