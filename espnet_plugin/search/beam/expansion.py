"""What one step of the beam search does to hypotheses: score, extend, recombine, prune.

:class:`Expansion` knows nothing of frames; the order of the steps is the search's (beam.py), and a
lexicon adds to each of them (lexicon_search.py).

Shapes: B utterances, K hypotheses, R = B * K rows, V vocabulary with blank, J joint size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.search.beam.beam_options import BeamOptions
from espnet_plugin.search.beam.beam_state import NEG_INF, Beam
from espnet_plugin.search.beam.history import NO_KEY, ROOT_KEY, HistoryTree, extend_key
from espnet_plugin.search.beam.prediction_cache import make_prediction_cache
from espnet_plugin.search.beam.recombine import recombine, stable_topk
from espnet_plugin.search.beam.scorer_set import ScorerSet
from espnet_plugin.search.beam.scorers import LabelScorer
from espnet_plugin.search.beam.state import take_rows
from espnet_plugin.search.hypothesis import Hypothesis

# "context" merges after the states were advanced; so many candidates per beam slot take part.
CANDIDATES_PER_SLOT = 4


class Expansion:
    """The models of a search and what they make of a :class:`Beam`."""

    def __init__(
        self,
        prediction: Any,
        joint: Any,
        options: BeamOptions,
        scorers: Sequence[tuple[LabelScorer, float]] = (),
    ) -> None:
        self._joint, self._options = joint, options
        self._vocab = joint.output.weight.shape[0]
        with torch.no_grad():
            self._cache = make_prediction_cache(prediction, joint, blank=options.blank)
        self._scorers = ScorerSet(joint, self._cache, scorers, options.ilm_scale, options.blank)
        # Some equalities only show once the states were advanced: then merge after extending.
        self._merges_late = options.recombination == "context"

    def _start(self, batch: int, device: torch.device, dtype: torch.dtype) -> Beam:
        """The empty hypothesis of every utterance."""
        self._history = HistoryTree(device)
        zeros = torch.zeros(batch, dtype=torch.int64, device=device)
        monotonic = self._options.topology == "monotonic"
        beam = Beam(
            score=torch.zeros(batch, 1, dtype=dtype, device=device),
            node=zeros,
            key=zeros + ROOT_KEY,
            parent_key=zeros + NO_KEY if monotonic else None,
            last=zeros + self._options.blank if monotonic else None,
            prediction_state=self._cache.start(batch),
            scorer_states=self._scorers.start(batch),
        )
        if len(self._scorers):
            beam.parts = torch.zeros(batch, len(self._scorers), dtype=dtype, device=device)
            beam.fresh = torch.ones(batch, dtype=torch.bool, device=device)
        return self._with_bonus(self._started(beam))

    def _scores(self, beam: Beam, encoder: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """Totals after a blank [B, K'] and after each label [B, K', V] (-inf at blank).

        ``encoder`` [B, J] is the frame every utterance is in. The first ``first`` slots are left
        out: K' = K - first.
        """
        options, score = self._options, beam.score[:, first:]
        utterance, slot = (score > NEG_INF).nonzero().unbind(1)  # free slots cost no computation
        rows = utterance * beam.width + slot + first  # [L] of the beam
        place = rows if first == 0 else utterance * score.shape[1] + slot
        projected = self._cache.projected(take_rows(beam.prediction_state, rows))
        logits = self._joint.combine(encoder.index_select(0, utterance), projected)
        totals = logits.to(score.dtype).log_softmax(-1)  # [L, V]
        totals += beam.score.reshape(-1, 1).index_select(0, rows)
        after_blank = totals[:, options.blank]
        if options.blank_penalty:
            after_blank -= options.blank_penalty
        stay = totals.new_full((score.numel(),), NEG_INF).index_copy_(0, place, after_blank)
        if beam.bonus is not None:
            totals += beam.bonus.index_select(0, rows)
        totals[:, options.blank] = NEG_INF
        labels = totals.new_full((score.numel(), self._vocab), NEG_INF)
        return stay.view_as(score), labels.index_copy_(0, place, totals).view(*score.shape, -1)

    @property
    def _many_candidates(self) -> int:
        return self._options.beam * (CANDIDATES_PER_SLOT if self._merges_late else 1)

    def _candidates(self, totals: Tensor) -> tuple[Tensor, Tensor]:
        """The best of ``totals`` [B, K, V]: scores and cells slot * V + label, [B, M] each."""
        return self._best(totals.flatten(1), self._many_candidates)

    def _best(self, scores: Tensor, many: int) -> tuple[Tensor, Tensor]:
        """The ``many`` best of ``scores`` [B, M], or all: scores and indices, best first."""
        many = min(many, scores.shape[1])
        # Homophones and merged histories tie exactly; different label sequences hardly ever do.
        return stable_topk(scores, many) if self._merges_late else scores.topk(many, 1)

    def _taken(
        self,
        beam: Beam,
        score: Tensor,
        cell: Tensor,
        frame: Tensor,
        later: tuple[Tensor, Tensor] | None = None,
    ) -> Beam:
        """The hypotheses ``cell`` = slot * V + label [B, M], with their totals ``score`` [B, M].

        Args:
            beam: Where the slots are.
            score: Totals, -inf for a free slot.
            cell: Blank as the label means that nothing was emitted.
            frame: [B] the frame each utterance is in.
            later: Rows of the beam whose last label moves to this frame, with the parent's history
                node; monotonic topology.
        """
        slots, label = cell // self._vocab, (cell % self._vocab).flatten()
        new = beam.take(slots, score)
        emitted = (label != self._options.blank) & (score > NEG_INF).flatten()  # [R]
        if later is None and not bool(emitted.any()):
            return new
        parent, node_label, fresh_node = new.node, label, emitted
        if later is not None:
            assert new.last is not None
            rows = beam.rows(slots)
            moved = later[0][rows] & ~emitted
            parent = torch.where(moved, later[1][rows], parent)
            node_label = torch.where(moved, new.last, label)
            fresh_node = emitted | moved
        new.node = self._history.add(new.node, parent, node_label, frame, fresh_node)
        if new.parts is not None and new.label_parts is not None:
            index = label[:, None, None].expand(-1, len(self._scorers), 1)
            gained = new.label_parts.gather(2, index).squeeze(2)  # [R, P]
            new.parts = new.parts + gained.masked_fill(~emitted[:, None], 0.0)
        if new.parent_key is not None and new.last is not None:
            new.parent_key = torch.where(emitted, new.key, new.parent_key)
            new.last = torch.where(emitted, label, new.last)
        new.key = torch.where(emitted, extend_key(new.key, label), new.key)
        if new.fresh is not None:
            new.fresh = new.fresh | emitted
        new.prediction_state = self._cache.advance(new.prediction_state, label, emitted)
        new.scorer_states = self._scorers.advance(new.scorer_states, label, emitted)
        return self._extended(new, label, emitted, frame)

    def _recombined(self, beam: Beam) -> Beam:
        """Equal hypotheses added up; the merged-away ones keep their slot with score -inf."""
        keys = self._keys(beam).view_as(beam.score)
        beam.score = recombine(beam.score, keys, self._options.semiring)
        return beam

    def _pruned(self, beam: Beam) -> Beam:
        """At most ``beam`` hypotheses, sorted, within the score beam."""
        score, slots = self._best(beam.score, self._options.beam)
        return beam.take(slots, self._within_beam(score))

    def _within_beam(self, score: Tensor) -> Tensor:
        """Sorted scores [B, K], -inf where outside of the score beam."""
        if self._options.score_beam is None:
            return score
        return score.masked_fill(score < score[:, :1] - self._options.score_beam, NEG_INF)

    def _with_bonus(self, beam: Beam) -> Beam:
        """Language-model scores of the next label for the hypotheses that are new."""
        if beam.fresh is not None:
            self._scorers.refresh(beam, beam.fresh.nonzero().flatten())
            beam.fresh = torch.zeros_like(beam.fresh)
        return beam

    # What a stream keeps (stream.py) --------------------------------------------------------------

    def _trees(self) -> tuple[HistoryTree, ...]:
        """The histories of the search that runs; one search may run several in turns."""
        return (self._history,)

    def _use_trees(self, trees: tuple[HistoryTree, ...]) -> None:
        (self._history,) = trees

    def _settled(self, beam: Beam) -> Beam:
        """The beam with everything forgotten that its living hypotheses do not need."""
        alive = (beam.score > NEG_INF).flatten()
        return replace(beam, node=self._history.settle(beam.node, alive))

    # What a lexicon adds (lexicon_search.py) -----------------------------------------------------

    def _started(self, beam: Beam) -> Beam:
        """The first beam, before anything was scored."""
        return beam

    def _extended(self, beam: Beam, label: Tensor, emitted: Tensor, frame: Tensor) -> Beam:
        """A beam whose rows just took ``label`` [R], where ``emitted`` [R], in ``frame`` [B]."""
        return beam

    def _keys(self, beam: Beam) -> Tensor:
        """[R] int64, equal for hypotheses that are to be added up."""
        if self._options.recombination == "history":
            return beam.key
        key = self._cache.context_key(beam.prediction_state, beam.key)
        for part in self._scorers.keys(beam.scorer_states):
            key = extend_key(key, beam.key if part is None else part)
        return key

    # Results -------------------------------------------------------------------------------------

    def _finish(self, beam: Beam) -> Beam:
        """Add the end-of-sentence scores and sort again."""
        self._scorers.finish(beam)
        return self._pruned(beam)

    def _hypotheses(self, beam: Beam) -> list[Hypothesis | None]:
        """All R rows; None for a free slot."""
        histories, scores = self._history.read(beam.node), beam.score.flatten().tolist()
        parts = [[]] * len(scores) if beam.parts is None else beam.parts.tolist()
        return [
            None
            if score == NEG_INF
            else Hypothesis(
                tokens, score, score - self._scorers.total(part), *self._scorers.split(part), frames
            )
            for (tokens, frames), score, part in zip(histories, scores, parts, strict=True)
        ]
