"""The hypotheses of all utterances of a batch, as tensors.

Shapes: B utterances still running, K hypotheses each, R = B * K rows (utterance-major), J joint
size, P scorers (internal LM included), V vocabulary with blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.search.state import map_state

NEG_INF = float("-inf")


@dataclass
class Beam:
    """Rows of hypotheses; a free slot has score -inf.

    Attributes:
        width: K.
        score: [B, K] total.
        node: [R] position in the :class:`HistoryTree`.
        key, parent_key: [R] identity of the label sequence, and of it without its last label.
        last: [R] last label.
        parts: [R, P] unscaled log-probability of the sequence under each scorer.
        projected: [R, J] prediction-network output behind the joint's projection.
        prediction_state, scorer_states: what the networks need to go on, R rows each.
        label_parts: [R, P, V] of the next label under each scorer, or None without scorers.
        bonus: [R, V] scaled sum of ``label_parts``, 0 at blank, or None without scorers.
        fresh: [R] a label was emitted since ``label_parts`` was computed.
        lexical: Tensors of a lexicon search, R rows each; empty without a lexicon.
    """

    width: int
    score: Tensor
    node: Tensor
    key: Tensor
    parent_key: Tensor
    last: Tensor
    parts: Tensor
    projected: Tensor
    prediction_state: Any
    scorer_states: tuple[Any, ...]
    label_parts: Tensor | None
    bonus: Tensor | None
    fresh: Tensor
    lexical: tuple[Tensor, ...] = ()

    @property
    def batch(self) -> int:
        """B."""
        return self.score.shape[0]

    def rows(self, slots: Tensor) -> Tensor:
        """Slots [B, M] of each utterance -> row numbers [B * M]."""
        first = torch.arange(self.batch, device=slots.device) * self.width
        return (slots + first[:, None]).flatten()

    def take(self, slots: Tensor, score: Tensor) -> Beam:
        """A beam of the hypotheses ``slots`` [B, M] with new scores [B, M]."""
        rows = self.rows(slots)
        return self._map(lambda part: part.index_select(0, rows), score, slots.shape[1])

    def narrow(self, start: int, end: int) -> Beam:
        """Utterances start..end only."""
        span = slice(start * self.width, end * self.width)
        return self._map(lambda part: part[span], self.score[start:end], self.width)

    @staticmethod
    def joined(beams: Sequence[Beam]) -> Beam:
        """The hypotheses of all beams side by side: K = K_1 + K_2 + ..."""
        first = beams[0]
        if len(beams) == 1:
            return first

        def join(parts: Sequence[Any]) -> Any:
            if parts[0] is None:
                return None
            if isinstance(parts[0], tuple):
                return tuple(join(group) for group in zip(*parts, strict=True))
            blocks = [
                part.view(first.batch, beam.width, *part.shape[1:])
                for part, beam in zip(parts, beams, strict=True)
            ]
            return torch.cat(blocks, 1).flatten(0, 1)

        joint = {name: join([getattr(beam, name) for beam in beams]) for name in _ROW_FIELDS}
        score = torch.cat([beam.score for beam in beams], 1)
        return Beam(width=score.shape[1], score=score, **joint)

    def _map(self, function: Any, score: Tensor, width: int) -> Beam:
        mapped = {name: map_state(getattr(self, name), function) for name in _ROW_FIELDS}
        return Beam(width=width, score=score, **mapped)


_ROW_FIELDS = tuple(f.name for f in fields(Beam) if f.name not in ("width", "score"))
