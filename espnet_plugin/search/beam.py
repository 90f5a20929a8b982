"""Time-synchronous beam search, batched over utterances and hypotheses, both topologies.

Full-sum search (method.md, "Decoding"): Q(t, a) = sum of the probabilities of all paths that have
emitted a after t frames. One frame of the ``monotonic`` topology, with bonus(v|a) the scaled
language-model terms, is

    Q(t+1, a·v) = Q(t, a·v) p(ε | t, a·v) + Q(t, a) p(v | t, a) · bonus(v|a),

and the K best sequences survive. Both terms of the sum are formed *before* pruning. In the ``rnnt``
topology the label step stays on the frame: levels of 0, 1, 2, ... labels are computed one after
the other, each adds its blank step to the next frame's Q, until no level can improve on the K best.

Shapes: B utterances, T frames, K hypotheses, R = B * K rows, V vocabulary with blank, J joint size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.search.beam_options import BeamOptions
from espnet_plugin.search.beam_state import NEG_INF, Beam
from espnet_plugin.search.history import NO_KEY, ROOT_KEY, HistoryTree, extend_key
from espnet_plugin.search.hypothesis import Hypothesis
from espnet_plugin.search.prediction_cache import make_prediction_cache
from espnet_plugin.search.recombine import combine, recombine
from espnet_plugin.search.scorer_set import ScorerSet
from espnet_plugin.search.scorers import LabelScorer

# "context" merges after the states were advanced; so many candidates per beam slot take part.
CANDIDATES_PER_SLOT = 4


def beam_search(
    encoder_out: Tensor,
    lengths: Tensor,
    prediction: Any,
    joint: Any,
    *,
    beam: int,
    nbest: int = 1,
    topology: str = "monotonic",
    scorers: Sequence[tuple[LabelScorer, float]] = (),
    ilm_scale: float | None = None,
    recombination: str = "history",
    semiring: str = "full_sum",
    score_beam: float | None = None,
    max_symbols: int = 5,
    blank_penalty: float = 0.0,
    blank: int = 0,
) -> list[list[Hypothesis]]:
    """The ``nbest`` best hypotheses of every utterance, best first.

    Args:
        encoder_out: [B, T, D_enc].
        lengths: [B] valid frames.
        prediction: Prediction network, in evaluation mode.
        joint: Joint network, in evaluation mode.
        beam: Hypotheses kept per utterance and frame.
        nbest: Hypotheses returned at most.
        topology: ``"monotonic"`` (T steps) or ``"rnnt"`` (at most T * (max_symbols + 1) steps).
        scorers: Language models with their scales (negative for density ratio or LODR).
        ilm_scale: Scale the internal LM is subtracted with. None: not computed; 0: its score is
            reported but not used.
        recombination: ``"history"`` adds up hypotheses with equal label sequence and keeps all
            different sequences apart (N-best lists; exact for a beam that prunes nothing).
            ``"context"``, the paper's, also adds up hypotheses that differ only in labels which no
            model can see any more (equal prediction-network context and LM states) and goes on
            with the better one's labels; a beam then covers more of the distribution.
        semiring: ``"full_sum"``, or ``"max"`` for Viterbi search (best single path).
        score_beam: Hypotheses worse than the best by more than this (nats) are dropped.
        max_symbols: Most labels per frame in the ``rnnt`` topology.
        blank_penalty: Subtracted from log p(ε), scores included; against deletions.
        blank: Index of blank.

    Returns:
        A list of hypotheses per utterance (at least one; the empty one for zero frames).

    Raises:
        ValueError: An option outside its range, or an LM of another vocabulary size.
    """
    if nbest < 1:
        raise ValueError(f"nbest must be at least 1, got {nbest}")
    options = BeamOptions(
        beam=beam,
        topology=topology,
        recombination=recombination,
        semiring=semiring,
        score_beam=score_beam,
        max_symbols=max_symbols,
        ilm_scale=ilm_scale,
        blank_penalty=blank_penalty,
        blank=blank,
    )
    return BeamSearch(prediction, joint, options, scorers).search(encoder_out, lengths, nbest)


class BeamSearch:
    """The search of :func:`beam_search`, with the prediction-network table built only once."""

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
        self._scorers = ScorerSet(joint, scorers, options.ilm_scale, options.blank)
        # Some equalities only show once the states were advanced: then merge after extending.
        self._merges_late = options.recombination == "context"

    @torch.no_grad()
    def search(
        self, encoder_out: Tensor, lengths: Tensor, nbest: int = 1
    ) -> list[list[Hypothesis]]:
        """[B, T, D_enc], [B] -> hypotheses of every utterance, best first."""
        order = torch.argsort(lengths, descending=True, stable=True)
        left = lengths[order].tolist()  # frames of the utterances still running, longest first
        encoder = self._joint.encoder_proj(encoder_out[order])  # [B, T, J]
        self._history = HistoryTree(encoder.device)
        beam = self._start(len(left), encoder)
        ended: list[Beam] = []
        for t in range(max(left, default=0) + 1):
            running = sum(length > t for length in left)
            if running < beam.batch:
                ended.append(self._finish(beam.narrow(running, beam.batch)))
                beam = beam.narrow(0, running)
            if running:
                beam = self._frame(beam, encoder[:running, t], t)
        results = self._read(ended, nbest)
        inverse = torch.argsort(order).tolist()
        return [results[i] for i in inverse]

    def _start(self, batch: int, encoder: Tensor) -> Beam:
        dtype = torch.promote_types(encoder.dtype, torch.float32)
        zeros = torch.zeros(batch, dtype=torch.int64, device=encoder.device)
        projected, state = self._cache.start(batch)
        beam = Beam(
            width=1,
            score=torch.zeros(batch, 1, dtype=dtype, device=encoder.device),
            node=zeros,
            key=zeros + ROOT_KEY,
            parent_key=zeros + NO_KEY,
            last=zeros + self._options.blank,
            parts=encoder.new_zeros(batch, len(self._scorers), dtype=dtype),
            projected=projected,
            prediction_state=state,
            scorer_states=self._scorers.start(batch),
            label_parts=None,
            bonus=None,
            fresh=torch.ones(batch, dtype=torch.bool, device=encoder.device),
        )
        return self._with_bonus(self._started(beam))

    # One frame -------------------------------------------------------------------------------

    def _frame(self, beam: Beam, encoder: Tensor, t: int) -> Beam:
        """All hypotheses after frame t; ``encoder`` [B, J] is that frame."""
        if self._options.topology == "monotonic":
            stay, labels = self._scores(beam, encoder)
            return self._with_bonus(self._monotonic(beam, stay, labels, t))
        return self._rnnt(beam, encoder, t)

    def _scores(self, beam: Beam, encoder: Tensor) -> tuple[Tensor, Tensor]:
        """Totals after a blank [B, K] and after each label [B, K, V] (-inf at blank)."""
        options = self._options
        projected = beam.projected.view(beam.batch, beam.width, -1)  # [B, K, J]
        logits = self._joint.combine(encoder[:, None], projected).to(beam.score.dtype)
        log_probs = logits.log_softmax(-1)  # [B, K, V]
        stay = beam.score + log_probs[..., options.blank] - options.blank_penalty
        labels = log_probs + beam.score[..., None]
        if beam.bonus is not None:
            labels += beam.bonus.view_as(labels)
        labels[..., options.blank] = NEG_INF
        return stay, labels

    def _monotonic(self, beam: Beam, stay: Tensor, labels: Tensor, t: int) -> Beam:
        options = self._options
        if self._merges_late:
            labels[..., options.blank] = stay
            many = self._extend(beam, labels, CANDIDATES_PER_SLOT * options.beam, t)
            return self._pruned(self._recombined(many))
        # a·v in the beam, reached by a blank, meets a's extension by v: the parent's slot, if any.
        key, parent_key = beam.key.view_as(stay), beam.parent_key.view_as(stay)
        meets = parent_key[:, :, None] == key[:, None, :]  # [B, K, K]
        alive = beam.score > NEG_INF
        meets &= alive[:, :, None] & alive[:, None, :]
        exists, parent = meets.any(2), meets.int().argmax(2)  # [B, K]
        cell = parent * self._vocab + beam.last.view_as(stay)  # [B, K]
        flat = labels.flatten(1)  # [B, K * V]
        child = flat.gather(1, cell).masked_fill(~exists, NEG_INF)
        flat.scatter_(1, torch.where(exists, cell, options.blank), NEG_INF)
        labels = flat.view_as(labels)
        labels[..., options.blank] = combine(stay, child, options.semiring)
        later = (child > stay).flatten()  # the label was more likely emitted in this frame
        parent_node = beam.node[beam.rows(parent)]
        new = self._extend(beam, labels, options.beam, t, (later, parent_node))
        new.score = self._within_beam(new.score)
        return new

    def _rnnt(self, beam: Beam, encoder: Tensor, t: int) -> Beam:
        options = self._options
        level, levels = beam, []
        ended, keys = beam.score[:, :0], beam.key.view_as(beam.score)[:, :0]
        for emitted in range(options.max_symbols + 1):
            stay, labels = self._scores(level, encoder)
            levels.append(level)
            ended = torch.cat([ended, stay], 1)  # [B, hypotheses of all levels]
            keys = torch.cat([keys, self._keys(level).view_as(stay)], 1)
            if emitted > 0:
                ended = recombine(ended, keys, options.semiring)
            score, slots = ended.topk(min(options.beam, ended.shape[1]), 1)
            if emitted == options.max_symbols:
                break
            if score.shape[1] == options.beam:  # what is worse than the K-th best stays worse
                labels.masked_fill_(labels <= score[:, -1, None, None], NEG_INF)
            if options.score_beam is not None:
                limit = score[:, 0, None, None] - options.score_beam
                labels.masked_fill_(labels < limit, NEG_INF)
            width = int((labels > NEG_INF).flatten(1).sum(1).max())
            if width == 0:
                break
            if self._merges_late:
                many = self._extend(level, labels, CANDIDATES_PER_SLOT * options.beam, t)
                level = self._with_bonus(self._pruned(self._recombined(many)))
            else:
                level = self._extend(level, labels, min(width, options.beam), t)
                level = self._with_bonus(level)
        score = self._within_beam(score)
        if options.score_beam is not None:  # slots that are free everywhere cost time in each frame
            width = max(1, int((score > NEG_INF).sum(1).max()))
            score, slots = score[:, :width], slots[:, :width]
        return Beam.joined(levels).take(slots, score)

    # Building blocks -------------------------------------------------------------------------

    def _all_slots(self, beam: Beam) -> Tensor:
        slots = torch.arange(beam.width, device=beam.score.device)
        return slots.expand(beam.batch, -1)

    def _extend(
        self,
        beam: Beam,
        totals: Tensor,
        count: int,
        t: int,
        later: tuple[Tensor, Tensor] | None = None,
    ) -> Beam:
        """The ``count`` best of ``totals`` [B, K, V] as hypotheses; the blank column stays put.

        ``later``: rows whose last label moves to this frame, with the parent's history node.
        """
        flat = totals.flatten(1)
        score, cell = flat.topk(min(count, flat.shape[1]), 1)  # [B, M]
        slots, label = cell // self._vocab, (cell % self._vocab).flatten()
        rows = beam.rows(slots)
        new = beam.take(slots, score)
        emitted = (label != self._options.blank) & (score > NEG_INF).flatten()  # [R]
        parent, node_label, fresh_node = new.node, label, emitted
        if later is not None:
            moved = later[0][rows] & ~emitted
            parent = torch.where(moved, later[1][rows], parent)
            node_label = torch.where(moved, new.last, label)
            fresh_node = emitted | moved
        new.node = self._history.add(new.node, parent, node_label, t, fresh_node)
        if new.label_parts is not None:
            index = label[:, None, None].expand(-1, len(self._scorers), 1)
            gained = new.label_parts.gather(2, index).squeeze(2)  # [R, P]
            new.parts = new.parts + gained.masked_fill(~emitted[:, None], 0.0)
        new.parent_key = torch.where(emitted, new.key, new.parent_key)
        new.key = torch.where(emitted, extend_key(new.key, label), new.key)
        new.last = torch.where(emitted, label, new.last)
        new.fresh = new.fresh | emitted
        new.projected, new.prediction_state = self._cache.advance(
            new.projected, new.prediction_state, label, emitted
        )
        new.scorer_states = self._scorers.advance(new.scorer_states, label, emitted)
        return self._extended(new, label, emitted, t)

    def _recombined(self, beam: Beam) -> Beam:
        """Equal hypotheses added up; the merged-away ones keep their slot with score -inf."""
        keys = self._keys(beam).view(beam.batch, beam.width)
        beam.score = recombine(beam.score, keys, self._options.semiring)
        return beam

    def _pruned(self, beam: Beam) -> Beam:
        """At most ``beam`` hypotheses, sorted, within the score beam."""
        score, slots = beam.score.topk(min(self._options.beam, beam.width), 1)
        return beam.take(slots, self._within_beam(score))

    def _within_beam(self, score: Tensor) -> Tensor:
        """Sorted scores [B, K], -inf where outside of the score beam."""
        if self._options.score_beam is None:
            return score
        return score.masked_fill(score < score[:, :1] - self._options.score_beam, NEG_INF)

    def _with_bonus(self, beam: Beam) -> Beam:
        """Language-model scores of the next label for the hypotheses that are new."""
        if len(self._scorers):
            self._scorers.refresh(beam, beam.fresh.nonzero().flatten())
            beam.fresh = torch.zeros_like(beam.fresh)
        return beam

    # What a lexicon adds (lexicon_search.py) -----------------------------------------------------

    def _started(self, beam: Beam) -> Beam:
        """The first beam, before anything was scored."""
        return beam

    def _extended(self, beam: Beam, label: Tensor, emitted: Tensor, t: int) -> Beam:
        """A beam whose rows just took ``label`` [R], where ``emitted`` [R]."""
        return beam

    def _keys(self, beam: Beam) -> Tensor:
        """[R] int64, equal for hypotheses that are to be added up."""
        if self._options.recombination == "history":
            return beam.key
        key = self._cache.context_key(beam.prediction_state, beam.key)
        for part in self._scorers.keys(beam.scorer_states):
            key = extend_key(key, beam.key if part is None else part)
        return key

    # Results ---------------------------------------------------------------------------------

    def _finish(self, beam: Beam) -> Beam:
        """Add the end-of-sentence scores and sort again."""
        self._scorers.finish(beam)
        return self._pruned(beam)

    def _read(self, ended: list[Beam], nbest: int) -> list[list[Hypothesis]]:
        """Hypotheses in order of length, longest utterance first."""
        results: list[list[Hypothesis]] = []
        for beam in reversed(ended):  # the shortest utterances ended first
            kept = beam.take(self._all_slots(beam)[:, :nbest], beam.score[:, :nbest])
            found = self._hypotheses(kept)
            for b in range(kept.batch):
                row = found[b * kept.width : (b + 1) * kept.width]
                results.append([h for h in row if h is not None])
        return results

    def _hypotheses(self, beam: Beam) -> list[Hypothesis | None]:
        """All R rows; None for a free slot."""
        histories = self._history.read(beam.node)
        scores, parts = beam.score.flatten().tolist(), beam.parts.tolist()
        return [
            None
            if score == NEG_INF
            else Hypothesis(
                tokens, score, score - self._scorers.total(part), *self._scorers.split(part), frames
            )
            for (tokens, frames), score, part in zip(histories, scores, parts, strict=True)
        ]
