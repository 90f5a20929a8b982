"""The hypotheses of all utterances of a batch, as tensors.

Shapes: B utterances still running, K hypotheses each, R = B * K rows (utterance-major), P scorers
(internal LM included), V vocabulary with blank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.search.beam.state import map_state

NEG_INF = float("-inf")


@dataclass
class Beam:
    """Rows of hypotheses; a free slot has score -inf.

    What a search does not need is None: every tensor costs a call whenever rows are gathered.

    Attributes:
        score: [B, K] total.
        node: [R] position in the :class:`HistoryTree`.
        key: [R] identity of the label sequence.
        parent_key: [R] the same without the last label; monotonic topology.
        last: [R] last label; monotonic topology.
        prediction_state, scorer_states: what the networks need to go on, R rows each.
        parts: [R, P] unscaled log-probability of the sequence under each scorer.
        label_parts: [R, P, V] of the next label under each scorer.
        bonus: [R, V] scaled sum of ``label_parts``, 0 at blank.
        fresh: [R] a label was emitted since ``label_parts`` and ``bonus`` were computed.
        lexical: Tensors of a lexicon search, R rows each.
    """

    score: Tensor
    node: Tensor
    key: Tensor
    parent_key: Tensor | None
    last: Tensor | None
    prediction_state: Any
    scorer_states: tuple[Any, ...]
    parts: Tensor | None = None
    label_parts: Tensor | None = None
    bonus: Tensor | None = None
    fresh: Tensor | None = None
    lexical: tuple[Tensor, ...] = ()

    @property
    def batch(self) -> int:
        """B."""
        return self.score.shape[0]

    @property
    def width(self) -> int:
        """K."""
        return self.score.shape[1]

    def rows(self, slots: Tensor) -> Tensor:
        """Slots [B, M] of each utterance -> row numbers [B * M]."""
        first = torch.arange(0, self.batch * self.width, self.width, device=slots.device)
        return (slots + first[:, None]).flatten()

    def take(self, slots: Tensor, score: Tensor) -> Beam:
        """A beam of the hypotheses ``slots`` [B, M] with new scores [B, M]."""
        rows = self.rows(slots)
        return self._map(lambda part: part.index_select(0, rows), score)

    def of(self, utterances: Tensor, first: int = 0, end: int | None = None) -> Beam:
        """The slots ``first`` to ``end`` of some utterances [B']."""
        slots = torch.arange(self.width, device=utterances.device)[first:end]
        rows = (slots + (utterances * self.width)[:, None]).flatten()
        score = self.score.index_select(0, utterances)[:, first:end]
        return self._map(lambda part: part.index_select(0, rows), score)

    def narrow(self, start: int, end: int) -> Beam:
        """Utterances start..end only."""
        span = slice(start * self.width, end * self.width)
        return self._map(lambda part: part[span], self.score[start:end])

    def widened(self, width: int) -> Beam:
        """Free slots added behind: K = ``width``."""
        missing = width - self.width
        if missing == 0:
            return self
        slots = torch.arange(width, device=self.score.device).clamp_max(self.width - 1)
        score = torch.nn.functional.pad(self.score, (0, missing), value=NEG_INF)
        return self.take(slots.expand(self.batch, -1), score)

    @staticmethod
    def side_by_side(beams: Sequence[Beam]) -> Beam:
        """The hypotheses of beams over the same utterances: K = K_1 + K_2 + ..."""
        batch = beams[0].batch

        def join(parts: Sequence[Tensor]) -> Tensor:
            blocks = [part.view(batch, -1, *part.shape[1:]) for part in parts]
            return torch.cat(blocks, 1).flatten(0, 1)

        return Beam._joined(beams, join, torch.cat([beam.score for beam in beams], 1))

    @staticmethod
    def stacked(beams: Sequence[Beam]) -> Beam:
        """The utterances of beams of one width: B = B_1 + B_2 + ..."""
        score = torch.cat([beam.score for beam in beams])
        return Beam._joined(beams, lambda parts: torch.cat(tuple(parts)), score)

    @staticmethod
    def _joined(
        beams: Sequence[Beam], function: Callable[[Sequence[Tensor]], Tensor], score: Tensor
    ) -> Beam:
        def join(parts: Sequence[Any]) -> Any:
            if parts[0] is None:
                return None
            if isinstance(parts[0], tuple):
                return tuple(join(group) for group in zip(*parts, strict=True))
            return function(parts)

        fields_joined = {n: join([getattr(beam, n) for beam in beams]) for n in _ROW_FIELDS}
        return Beam(score=score, **fields_joined)

    def _map(self, function: Callable[[Tensor], Tensor], score: Tensor) -> Beam:
        mapped = {name: map_state(getattr(self, name), function) for name in _ROW_FIELDS}
        return Beam(score=score, **mapped)


_ROW_FIELDS = tuple(f.name for f in fields(Beam) if f.name != "score")
