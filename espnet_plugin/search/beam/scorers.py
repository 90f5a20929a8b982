"""What a language model must offer to take part in a label-level search.

A scorer predicts *labels* (never blank), batched over hypotheses. Its states are tensors, or nested
tuples of tensors, with one leading row per hypothesis, so that the search can gather them. The work
is split so that it is done only for hypotheses that survive pruning: ``advance`` is bookkeeping,
``score`` may run a network.

Shapes: R rows (hypotheses of all utterances), V vocabulary with blank.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class LabelScorer(Protocol):
    """A language model over the labels of the transducer."""

    def start(self, rows: int) -> Any:
        """State at the beginning of a sentence."""
        ...

    def score(self, state: Any) -> tuple[Tensor, Any]:
        """-> (log p(v | history) [R, V], state); the entry of blank is ignored."""
        ...

    def advance(self, state: Any, labels: Tensor) -> Any:
        """State after one more label, ``labels`` [R]."""
        ...

    def final(self, state: Any) -> Tensor:
        """log p(end of sentence | history) [R]; zeros for a model without one."""
        ...

    def key(self, state: Any) -> Tensor | None:
        """[R] int64, equal for states that are equal; None if no two histories ever meet."""
        ...
