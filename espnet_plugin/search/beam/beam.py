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
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from espnet_plugin.search.beam.beam_options import BeamOptions
from espnet_plugin.search.beam.beam_state import NEG_INF, Beam
from espnet_plugin.search.beam.engine import Engine
from espnet_plugin.search.beam.expansion import Expansion
from espnet_plugin.search.beam.packed_frames import packed_frames
from espnet_plugin.search.beam.recombine import combine, recombine_two
from espnet_plugin.search.beam.scorers import LabelScorer
from espnet_plugin.search.hypothesis import Hypothesis

# rnnt: what has left a frame just outside the K best may still gain from a deeper level.
WAITING_PER_SLOT = 2

Ended = tuple[Tensor, Beam]  # numbers of utterances [B] and their last beam


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
    engine: str = "auto",
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
        engine: ``"torch"``; ``"compiled"``, the same by numba on a CPU; ``"auto"``: the faster one
            (`engine.py`).

    Returns:
        A list of hypotheses per utterance (at least one; the empty one for zero frames).

    Raises:
        ValueError: An option outside its range, an LM of another vocabulary size, lengths that do
            not fit ``encoder_out``, or ``"compiled"`` for a model that cannot be.
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
        engine=engine,
    )
    return BeamSearch(prediction, joint, options, scorers).search(encoder_out, lengths, nbest)


class BeamSearch(Expansion):
    """The search of :func:`beam_search`, with the prediction-network table built only once."""

    def __init__(
        self,
        prediction: Any,
        joint: Any,
        options: BeamOptions,
        scorers: Sequence[tuple[LabelScorer, float]] = (),
    ) -> None:
        super().__init__(prediction, joint, options, scorers)
        waiting = WAITING_PER_SLOT * options.beam
        models = joint, self._cache, self._scorers, options
        self._engine: Engine | None = Engine(*models, self._many_candidates, waiting)

    @torch.inference_mode()
    def search(
        self, encoder_out: Tensor, lengths: Tensor, nbest: int = 1
    ) -> list[list[Hypothesis]]:
        """[B, T, D_enc], [B] -> hypotheses of every utterance, best first."""
        frames, first, lengths = packed_frames(encoder_out, lengths)
        if not len(lengths):
            return []
        frames = self._joint.encoder_proj(frames)  # [F, J]
        found = self._engine.search(frames, first, lengths, nbest) if self._engine else None
        if found is not None:
            return found
        dtype = torch.promote_types(frames.dtype, torch.float32)
        beam = self._start(len(lengths), frames.device, dtype)
        return self._read(self._run(beam, frames, first, lengths), nbest)

    def _run(self, beam: Beam, frames: Tensor, first: Tensor, lengths: Tensor) -> list[Ended]:
        """All steps over frames [F, J], first [B], lengths [B] as of `packed_frames`.

        A beam that has ended can go on with frames that come later (stream.py).
        """
        monotonic = self._options.topology == "monotonic"
        return (self._monotonic if monotonic else self._rnnt)(beam, frames, first, lengths)

    def _read(self, ended: list[Ended], nbest: int) -> list[list[Hypothesis]]:
        """Everything is read at once, which is many times faster than one utterance at a time."""
        width = max(beam.width for _, beam in ended)
        beams = [replace(beam, label_parts=None, bonus=None, fresh=None) for _, beam in ended]
        beam = self._finish(Beam.stacked([beam.widened(width) for beam in beams]))
        kept = beam.of(torch.cat([numbers for numbers, _ in ended]).argsort(), end=nbest)
        found = self._hypotheses(kept)
        rows = [found[b * kept.width : (b + 1) * kept.width] for b in range(kept.batch)]
        return [[h for h in row if h is not None] for row in rows]

    # monotonic: one step per frame ---------------------------------------------------------------

    def _monotonic(self, beam: Beam, frames: Tensor, first: Tensor, lengths: Tensor) -> list[Ended]:
        """All steps; frames [F, J], first [B] as of `packed_frames`."""
        order = torch.argsort(lengths, descending=True, stable=True)
        left = lengths[order].tolist()  # frames of the utterances still running, longest first
        first, ended = first[order], []
        for t in range(left[0] + 1):
            running = sum(length > t for length in left)
            if running < beam.batch:
                ended.append((order[running : beam.batch], beam.narrow(running, beam.batch)))
                beam = beam.narrow(0, running)
            if running:
                stay, labels = self._scores(beam, frames.index_select(0, first[:running] + t))
                frame = torch.full_like(order[:running], t)
                beam = self._with_bonus(self._monotonic_frame(beam, stay, labels, frame))
        return ended

    def _monotonic_frame(self, beam: Beam, stay: Tensor, labels: Tensor, frame: Tensor) -> Beam:
        blank = self._options.blank
        if self._merges_late:
            labels[..., blank] = stay
            many = self._taken(beam, *self._candidates(labels), frame)
            return self._pruned(self._recombined(many))
        assert beam.parent_key is not None and beam.last is not None
        # a·v in the beam, reached by a blank, meets a's extension by v: the parent's slot, if any.
        key, parent_key = beam.key.view_as(stay), beam.parent_key.view_as(stay)
        meets = parent_key[:, :, None] == key[:, None, :]  # [B, K, K]
        alive = beam.score > NEG_INF
        meets &= alive[:, :, None] & alive[:, None, :]
        exists, parent = meets.any(2), meets.int().argmax(2)  # [B, K]
        cell = parent * self._vocab + beam.last.view_as(stay)  # [B, K]
        flat = labels.flatten(1)  # [B, K * V]
        child = flat.gather(1, cell).masked_fill(~exists, NEG_INF)
        flat.scatter_(1, torch.where(exists, cell, blank), NEG_INF)
        labels = flat.view_as(labels)
        labels[..., blank] = combine(stay, child, self._options.semiring)
        later = (child > stay).flatten()  # the label was more likely emitted in this frame
        parent_node = beam.node[beam.rows(parent)]
        score, cell = self._candidates(labels)
        new = self._taken(beam, score, cell, frame, (later, parent_node))
        new.score = self._within_beam(score)
        return new

    # rnnt: a label stays on its frame ------------------------------------------------------------

    def _rnnt(self, beam: Beam, frames: Tensor, first: Tensor, lengths: Tensor) -> list[Ended]:
        """All steps. Every utterance goes through its frames at its own pace.

        The first ``gone`` slots of the beam are hypotheses that have left their utterance's frame
        by a blank. The others are one level: as many labels on this frame each. A step evaluates
        the level; then an utterance goes deeper, to the next level, or, if no label can get into
        the K best any more, to the next frame, with the K best of what has left this one.
        """
        blank, vocab = self._options.blank, self._vocab
        utterance, ended = torch.arange(len(lengths), device=lengths.device), []
        frame, depth, gone = torch.zeros_like(utterance), torch.zeros_like(utterance), 0
        while True:
            done = frame == lengths
            if bool(done.any()):
                ends, runs = done.nonzero().flatten(), (~done).nonzero().flatten()
                ended.append((utterance[ends], beam.of(ends, gone)))
                if runs.shape[0] == 0:
                    return ended
                beam = beam.of(runs)
                utterance, first, lengths = utterance[runs], first[runs], lengths[runs]
                frame, depth = frame[runs], depth[runs]
            stay, labels = self._scores(beam, frames.index_select(0, first + frame), gone)
            left, slots = self._left(beam, stay, gone)
            level, cell = self._candidates(labels)
            arrived, floor = self._bounds(left)
            level = level.masked_fill(level <= floor, NEG_INF)
            deeper = (level[:, 0] > NEG_INF) & (depth < self._options.max_symbols)  # [B]
            # Behind what waits until the level is empty stands what the next step evaluates.
            here, left_cell = deeper[:, None], slots * vocab + blank
            score = _where(here, level, arrived, NEG_INF)
            cell = _where(here, cell + gone * vocab, left_cell, blank)
            left = left.masked_fill(~here, NEG_INF)
            used = (torch.cat([left, score], 1) > NEG_INF).any(0).tolist()
            gone, width = sum(used[: left.shape[1]]), sum(used[left.shape[1] :])
            waiting = left[:, :gone], left_cell[:, :gone]
            beam = self._next(beam, waiting, (score[:, :width], cell[:, :width]), frame)
            frame, depth = frame + ~deeper, (depth + 1) * deeper

    def _left(self, beam: Beam, stay: Tensor, gone: int) -> tuple[Tensor, Tensor]:
        """Best first, what has left the frame by now, with its slots; ``stay`` is the level's."""
        if gone:
            keys = self._keys(beam).view_as(beam.score)
            before = beam.score[:, :gone]
            semiring = self._options.semiring
            stay = recombine_two(before, stay, keys[:, :gone], keys[:, gone:], semiring)
        return self._best(stay, WAITING_PER_SLOT * self._options.beam)

    def _bounds(self, left: Tensor) -> tuple[Tensor, Tensor]:
        """The K best of ``left`` and within the score beam; [B, 1] what a label has to exceed."""
        beam, score_beam = self._options.beam, self._options.score_beam
        arrived = left[:, :beam]
        # What is worse than the K-th best stays worse.
        floor = arrived[:, -1:] if arrived.shape[1] == beam else arrived[:, :1] + NEG_INF
        if score_beam is None:
            return arrived, floor
        limit = arrived[:, :1] - score_beam
        return arrived.masked_fill(arrived < limit, NEG_INF), torch.maximum(floor, limit)

    def _next(
        self,
        beam: Beam,
        waiting: tuple[Tensor, Tensor],
        level: tuple[Tensor, Tensor],
        frame: Tensor,
    ) -> Beam:
        """What has left the frame and what goes on, as (score, slot * V + label) [B, M] each."""
        if not self._merges_late:
            score, cell = (torch.cat(parts, 1) for parts in zip(waiting, level, strict=True))
            return self._with_bonus(self._taken(beam, score, cell, frame))
        new = self._pruned(self._recombined(self._taken(beam, *level, frame)))
        score, cell = waiting
        kept = beam.take(cell // self._vocab, score)
        return Beam.side_by_side([kept, self._with_bonus(new)])


def _where(condition: Tensor, first: Tensor, second: Tensor, fill: float) -> Tensor:
    """Rows [B, M] of the one or the other; the narrower is filled up."""
    missing = first.shape[1] - second.shape[1]
    if missing > 0:
        second = pad(second, (0, missing), value=fill)
    elif missing < 0:
        first = pad(first, (0, -missing), value=fill)
    return torch.where(condition, first, second)
