"""All label-level models that take part in a search, the internal LM among them.

Shapes: B utterances, K hypotheses, R = B * K rows, F fresh rows, P models, V vocabulary with blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.search.beam.beam_state import NEG_INF, Beam
from espnet_plugin.search.beam.internal_lm import internal_lm_from_projected
from espnet_plugin.search.beam.prediction_cache import PredictionCache
from espnet_plugin.search.beam.scorers import LabelScorer
from espnet_plugin.search.beam.state import put_rows, take_rows
from espnet_plugin.search.scaling import scaled, scaled_sum


class ScorerSet:
    """Scores of the next label, computed only for hypotheses that are new.

    Args:
        joint: The joint network.
        cache: Outputs of the prediction network.
        scorers: Language models with their scales.
        ilm_scale: What the internal LM is subtracted with; None: not computed.
        blank: Index of blank.
    """

    def __init__(
        self,
        joint: Any,
        cache: PredictionCache,
        scorers: Sequence[tuple[LabelScorer, float]],
        ilm_scale: float | None,
        blank: int,
    ) -> None:
        self._joint, self._cache, self._blank = joint, cache, blank
        self._scorers = [scorer for scorer, _ in scorers]
        self._has_ilm = ilm_scale is not None
        ilm = [] if ilm_scale is None else [-ilm_scale]
        self._scales = ilm + [scale for _, scale in scorers]

    def __len__(self) -> int:
        """P."""
        return len(self._scales)

    @property
    def has_language_models(self) -> bool:
        """Whether there are more than the internal LM."""
        return bool(self._scorers)

    def start(self, rows: int) -> tuple[Any, ...]:
        """States of all models at the beginning."""
        return tuple(scorer.start(rows) for scorer in self._scorers)

    def advance(self, states: tuple[Any, ...], label: Tensor, emitted: Tensor) -> tuple[Any, ...]:
        """States after ``label`` [R] in the rows where ``emitted`` [R]."""
        if not self._scorers:
            return states
        rows = emitted.nonzero().flatten()
        if rows.numel() == 0:
            return states
        return tuple(
            put_rows(state, rows, scorer.advance(take_rows(state, rows), label[rows]))
            for scorer, state in zip(self._scorers, states, strict=True)
        )

    def keys(self, states: tuple[Any, ...]) -> list[Tensor | None]:
        """What makes two states of each language model equal."""
        return [scorer.key(s) for scorer, s in zip(self._scorers, states, strict=True)]

    def refresh(self, beam: Beam, rows: Tensor) -> None:
        """Compute ``label_parts`` and ``bonus`` of the rows ``rows`` [F] of a beam."""
        if not self._scales or rows.numel() == 0:
            return
        projected = None
        if self._has_ilm:
            projected = self._cache.projected(take_rows(beam.prediction_state, rows))
        states = tuple(take_rows(state, rows) for state in beam.scorer_states)
        label_parts, bonus, states = self.next_label(projected, states, beam.score)
        first = beam.label_parts is None
        beam.label_parts = label_parts if first else put_rows(beam.label_parts, rows, label_parts)
        beam.bonus = bonus if first else put_rows(beam.bonus, rows, bonus)
        pairs = zip(beam.scorer_states, states, strict=True)
        beam.scorer_states = tuple(put_rows(old, rows, new) for old, new in pairs)

    def next_label(
        self, projected: Tensor | None, states: tuple[Any, ...], score: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        """What every model says about the next label.

        Args:
            projected: [F, J] outputs of the prediction network, for the internal LM.
            states: of the language models, F rows each.
            score: any tensor of the scores' type.

        Returns:
            [F, P, V] log-probabilities, 0 at blank; [F, V] their scaled sum; the states to keep.
        """
        parts, kept = [], []
        if projected is not None and self._has_ilm:
            parts.append(internal_lm_from_projected(projected, self._joint, blank=self._blank))
        vocab = self._joint.output.weight.shape[0]
        for scorer, state in zip(self._scorers, states, strict=True):
            log_probs, new = scorer.score(state)
            if log_probs.shape[-1] != vocab:
                raise ValueError(
                    f"{type(scorer).__name__} has {log_probs.shape[-1]} labels, the transducer "
                    f"{vocab}: the language model has another vocabulary"
                )
            parts.append(log_probs)
            kept.append(new)
        label_parts = torch.stack([part.to(score) for part in parts], 1)  # [F, P, V]
        label_parts[..., self._blank] = 0.0
        bonus = (label_parts * label_parts.new_tensor(self._scales)[:, None]).sum(1)  # [F, V]
        # A label ruled out (-inf) by one model stays so under a negative or zero scale.
        bonus.masked_fill_((label_parts == NEG_INF).any(1), NEG_INF)
        return label_parts, bonus, tuple(kept)

    def finish(self, beam: Beam) -> None:
        """Add the end-of-sentence scores to ``score`` and ``parts``."""
        if beam.parts is None:
            return
        finals, gained = self.finals(beam.scorer_states, beam.score.flatten())
        beam.parts = beam.parts + finals
        beam.score = beam.score + gained.view_as(beam.score)

    def finals(self, states: tuple[Any, ...], score: Tensor) -> tuple[Tensor, Tensor]:
        """End-of-sentence scores: [R, P], and their scaled sum [R], in the type of ``score``."""
        columns = [torch.zeros_like(score)] * int(self._has_ilm)  # the internal LM knows no end
        columns += [
            s.final(state).to(score) for s, state in zip(self._scorers, states, strict=True)
        ]
        gained = torch.zeros_like(score)
        for column, scale in zip(columns, self._scales, strict=True):
            gained = gained + scaled(column, scale)
        return torch.stack(columns, 1), gained

    def total(self, parts: Sequence[float]) -> float:
        """Scaled sum of one hypothesis' parts."""
        return scaled_sum(self._scales, parts)

    def split(self, parts: Sequence[float]) -> tuple[float, tuple[float, ...]]:
        """(internal LM, language models) of one hypothesis' parts."""
        return (parts[0], tuple(parts[1:])) if self._has_ilm else (0.0, tuple(parts))
