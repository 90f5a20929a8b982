"""Lexical prefix-tree search: time-synchronous beam search over the words of a lexicon.

A hypothesis is a label sequence together with its words so far and a node of the prefix tree. A
label leads to one child of the node; where words end at the child, the hypothesis branches: into
every such word (homophones, spellings), back to the root with a new word-LM state, and into the
word going on. Score of a complete hypothesis (method.md, "Decoding"):

    log P(a | x) + λ_LM log p_LM(w) + λ_pron log p(a | w) - λ_ILM log p_ILM(a),

with the language model's look-ahead (word_lm.py) inside words. Hypotheses are added up when label
sequence, words and node agree (``recombination="history"``), or as the paper does when label
context, LM state and node agree (``"context"``).

Shapes: B utterances, K hypotheses, R = B * K rows, X words that end at a node, V labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from espnet_plugin.search.beam.beam import BeamSearch
from espnet_plugin.search.beam.beam_options import BeamOptions
from espnet_plugin.search.beam.beam_state import NEG_INF, Beam
from espnet_plugin.search.beam.expansion import CANDIDATES_PER_SLOT
from espnet_plugin.search.beam.history import ROOT_KEY, HistoryTree, extend_key
from espnet_plugin.search.beam.scorers import LabelScorer
from espnet_plugin.search.hypothesis import Hypothesis
from espnet_plugin.search.lexicon.prefix_tree import PrefixTree, ranges
from espnet_plugin.search.lexicon.word_lm import LOOK_AHEADS, LookAhead, NoWordLm, WordScorer
from espnet_plugin.search.scaling import scaled


@dataclass(frozen=True)
class LexiconOptions:
    """What a lexicon adds to :class:`BeamOptions`.

    Attributes:
        lm_scale: λ_LM of the word-level language model.
        pronunciation_scale: λ_pron.
        look_ahead: ``"ngram"`` (exact best case, per LM state), ``"unigram"`` (one table for all
            states) or ``"none"``.
        word_end_beam: Words that end in a frame are dropped when worse than the frame's best word
            end by more than this (nats).
    """

    lm_scale: float = 1.0
    pronunciation_scale: float = 1.0
    look_ahead: str = "ngram"
    word_end_beam: float | None = None

    def __post_init__(self) -> None:
        if self.look_ahead not in LOOK_AHEADS:
            raise ValueError(f"look_ahead must be one of {LOOK_AHEADS}, got {self.look_ahead!r}")
        if self.word_end_beam is not None and self.word_end_beam <= 0:
            raise ValueError(f"word_end_beam must be positive, got {self.word_end_beam}")


class _Lexical(NamedTuple):
    """``Beam.lexical``, all [R]."""

    node: Tensor  # of the prefix tree
    lm_state: Tensor
    word_node: Tensor  # of the history of words
    word_key: Tensor  # identity of the word sequence
    lm_score: Tensor  # unscaled
    pronunciation_score: Tensor  # unscaled


class LexiconSearch(BeamSearch):
    """Beam search whose label sequences are those of word sequences.

    Args:
        prediction: Prediction network, in evaluation mode.
        joint: Joint network, in evaluation mode.
        tree: The lexicon.
        options: Beam, topology, pruning, internal LM.
        lexicon_options: Scales and look-ahead.
        word_lm: Word-level language model over ``tree.words``; None: all words are equal.
        scorers: Label-level language models with scales, as in :func:`beam_search`.

    Raises:
        ValueError: The tree was made for another vocabulary.
    """

    def __init__(
        self,
        prediction: Any,
        joint: Any,
        tree: PrefixTree,
        options: BeamOptions,
        lexicon_options: LexiconOptions | None = None,
        word_lm: WordScorer | None = None,
        scorers: Sequence[tuple[LabelScorer, float]] = (),
    ) -> None:
        super().__init__(prediction, joint, options, scorers)
        if tree.vocab_size != self._vocab or tree.blank != options.blank:
            raise ValueError(
                f"the prefix tree has {tree.vocab_size} labels and blank {tree.blank}, the "
                f"transducer {self._vocab} and {options.blank}"
            )
        self._merges_late = True
        if options.engine == "compiled":
            raise ValueError("a lexicon search is never compiled: use engine 'auto' or 'torch'")
        self._engine = None
        self._tree, self._lexicon = tree, lexicon_options or LexiconOptions()
        self._has_lm = word_lm is not None
        self._lm: WordScorer = word_lm if word_lm is not None else NoWordLm()
        self._look_ahead = LookAhead(
            tree,
            self._lm,
            self._lexicon.lm_scale,
            self._lexicon.pronunciation_scale,
            self._lexicon.look_ahead,
        )

    # Hooks of the beam search --------------------------------------------------------------------

    def _started(self, beam: Beam) -> Beam:
        zeros, none = torch.zeros_like(beam.node), beam.score.flatten()
        self._words = HistoryTree(zeros.device)
        start = zeros + self._lm.start_state()
        beam.lexical = _Lexical(zeros, start, zeros, zeros + ROOT_KEY, none, none)
        beam.fresh = torch.ones_like(zeros, dtype=torch.bool)
        return beam

    def _trees(self) -> tuple[HistoryTree, ...]:
        return (*super()._trees(), self._words)

    def _use_trees(self, trees: tuple[HistoryTree, ...]) -> None:
        self._history, self._words = trees

    def _settled(self, beam: Beam) -> Beam:
        beam = super()._settled(beam)
        lexical, alive = _Lexical(*beam.lexical), (beam.score > NEG_INF).flatten()
        node = self._words.settle(lexical.word_node, alive)
        return replace(beam, lexical=lexical._replace(word_node=node))

    def _keys(self, beam: Beam) -> Tensor:
        lexical = _Lexical(*beam.lexical)
        words = lexical.word_key
        if self._options.recombination == "context":
            words = lexical.lm_state
        return extend_key(extend_key(super()._keys(beam), words), lexical.node)

    def _extended(self, beam: Beam, label: Tensor, emitted: Tensor, frame: Tensor) -> Beam:
        lexical = _Lexical(*beam.lexical)
        node = torch.where(emitted, self._tree.child(lexical.node, label), lexical.node)
        beam.lexical = lexical._replace(node=node)
        return self._with_word_ends(beam, emitted, frame)

    def _with_bonus(self, beam: Beam) -> Beam:
        """Adds to every label the gain in look-ahead, and rules out labels that lead nowhere."""
        assert beam.fresh is not None
        rows = beam.fresh.nonzero().flatten()
        beam = super()._with_bonus(beam)
        if rows.numel() == 0:
            return beam
        lexical = _Lexical(*beam.lexical)
        node = lexical.node[rows]  # [F]
        table, row = self._look_ahead.rows(lexical.lm_state[rows])
        row_of, arc = ranges(self._tree.first_arc[node], self._tree.arc_count[node])
        target = self._tree.arc_node[arc]
        gain = table[row[row_of], target] - table[row[row_of], node[row_of]]
        lexical_bonus = beam.score.new_full((len(rows), self._vocab), NEG_INF)  # [F, V]
        lexical_bonus[row_of, self._tree.arc_label[arc]] = gain.to(lexical_bonus)
        lexical_bonus[:, self._options.blank] = 0.0
        if beam.bonus is None:
            assert len(rows) == beam.batch * beam.width, "the first beam is all fresh"
            beam.bonus = lexical_bonus
        elif len(self._scorers):
            beam.bonus = beam.bonus.index_add(0, rows, lexical_bonus)
        else:
            beam.bonus = beam.bonus.index_copy(0, rows, lexical_bonus)
        return beam

    def _finish(self, beam: Beam) -> Beam:
        """Only complete sentences, unless an utterance has none."""
        beam = self._completed(beam)
        lexical = _Lexical(*beam.lexical)
        complete = (lexical.node == 0).view_as(beam.score) & (beam.score > NEG_INF)
        hopeless = ~complete.any(1, keepdim=True)  # [B, 1] then an unfinished one must do
        ahead, row = self._look_ahead.rows(lexical.lm_state)
        alive = (beam.score > NEG_INF) & (complete | hopeless)
        beam.score = beam.score - ahead[row, lexical.node].view_as(beam.score)
        beam.score = beam.score.masked_fill(~alive, NEG_INF)
        if self._has_lm:
            final = self._lm.final(lexical.lm_state).to(beam.score)  # [R]
            beam.score = beam.score + scaled(final, self._lexicon.lm_scale).view_as(beam.score)
            beam.lexical = lexical._replace(lm_score=lexical.lm_score + final)
        return super()._finish(beam)

    def _hypotheses(self, beam: Beam) -> list[Hypothesis | None]:
        lexical = _Lexical(*beam.lexical)
        found = super()._hypotheses(beam)
        words = self._words.read(lexical.word_node)
        lm, weight = lexical.lm_score.tolist(), lexical.pronunciation_score.tolist()
        return [
            None if hypothesis is None else self._timed(hypothesis, *parts)
            for hypothesis, *parts in zip(found, words, lm, weight, strict=True)
        ]

    # Words ---------------------------------------------------------------------------------------

    def _with_word_ends(self, beam: Beam, emitted: Tensor, frame: Tensor) -> Beam:
        """Branch where words end: ``emitted`` [R] rows have just entered their node."""
        tree, node = self._tree, beam.lexical[0]
        alive = emitted & (beam.score > NEG_INF).flatten()
        count = torch.where(alive, tree.entry_count[node], 0)  # [R]
        if not bool((count > 0).any()):
            return beam
        ends, entry, total = self._word_ends(beam, tree.first_entry[node], count)
        if self._lexicon.word_end_beam is not None:
            best = total.flatten(1).amax(1)[:, None, None]
            total = total.masked_fill(total < best - self._lexicon.word_end_beam, NEG_INF)
        inside = emitted & (tree.arc_count[node] == 0)  # no arc leaves the node: not inside a word
        stay = beam.score.masked_fill(inside.view_as(beam.score), NEG_INF)[..., None]  # [B, K, 1]
        return self._branched(beam, torch.cat([stay, total], 2), entry, ends, frame)

    def _word_ends(
        self, beam: Beam, first: Tensor, count: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
        """Every word that may end in a row, ``count`` [R] entries from ``first`` [R] on.

        Returns:
            (LM state after, LM score, log weight) [R, X] each, the entry [R, X], the totals
            [B, K, X]; X is the largest count, free places have score -inf.
        """
        lexical, scales = _Lexical(*beam.lexical), self._lexicon
        row, entry = ranges(first, count)  # [P] pairs of row and entry
        state = lexical.lm_state[row]
        log_prob, following = self._lm.lookup(state, self._tree.entry_word[entry])
        weight = self._tree.entry_weight[entry]
        table, number = self._look_ahead.rows(state)
        gain = scaled(log_prob, scales.lm_scale) + scales.pronunciation_scale * weight
        gain = gain - table[number, lexical.node[row]]

        width = int(count.max())
        place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
        shape = (len(count), width)

        def spread(values: Tensor, like: Tensor, fill: float) -> Tensor:
            full = like.new_full(shape, fill)  # [R, X]
            full[row, place] = values.to(full)
            return full

        score = beam.score.flatten()
        total = spread(score[row] + gain.to(score), score, NEG_INF)
        parts = (
            spread(following, row, 0),
            spread(log_prob, score, 0.0),
            spread(weight, score, 0.0),
        )
        return parts, spread(entry, row, 0), total.view(beam.batch, beam.width, width)

    def _branched(
        self,
        beam: Beam,
        totals: Tensor,
        entry: Tensor,
        ends: tuple[Tensor, Tensor, Tensor],
        frame: Tensor,
    ) -> Beam:
        """The best of staying inside the word (first column) and ending one. totals [B, K, 1+X]."""
        options = totals.shape[2]
        keep = 2 * CANDIDATES_PER_SLOT * self._options.beam
        score, cell = self._best(totals.flatten(1), keep)  # [B, M]
        slots, choice = cell // options, (cell % options).flatten()
        rows = beam.rows(slots)
        new = beam.take(slots, score)
        ended = (choice > 0) & (score > NEG_INF).flatten()
        place = (choice - 1).clamp_min(0)[:, None]
        state, log_prob, weight, chosen = (
            part[rows].gather(1, place).squeeze(1) for part in (*ends, entry)
        )
        old = _Lexical(*new.lexical)
        word = self._tree.entry_word[chosen]
        new.lexical = _Lexical(
            node=old.node.masked_fill(ended, 0),
            lm_state=torch.where(ended, state, old.lm_state),
            word_node=self._words.add(old.word_node, old.word_node, chosen, frame, ended),
            word_key=torch.where(ended, extend_key(old.word_key, word), old.word_key),
            lm_score=old.lm_score + log_prob.masked_fill(~ended, 0.0),
            pronunciation_score=old.pronunciation_score + weight.masked_fill(~ended, 0.0),
        )
        return new

    def _completed(self, beam: Beam) -> Beam:
        """At the end of the utterance, words that may only stand there end too."""
        node = beam.lexical[0]
        alive = (beam.score > NEG_INF).flatten()
        count = torch.where(alive, self._tree.final_count[node], 0)
        if not bool((count > 0).any()):
            return beam
        ends, entry, total = self._word_ends(beam, self._tree.first_final[node], count)
        totals = torch.cat([beam.score[..., None], total], 2)
        return self._recombined(
            self._branched(beam, totals, entry, ends, node.new_zeros(beam.batch))
        )

    def _timed(
        self,
        found: Hypothesis,
        words: tuple[tuple[int, ...], tuple[int, ...]],
        lm_score: float,
        pronunciation_score: float,
    ) -> Hypothesis:
        """A hypothesis with its words: each takes as many labels as its pronunciation has."""
        spans, positions, start = [], [], 0
        entries = [self._tree.all_entries[number] for number in words[0]]
        for entry in entries:
            last = start + entry.own_labels - 1
            positions.append((start, last))
            spans.append((found.frames[start], found.frames[last]))
            start += len(entry.labels)
        scales = self._lexicon
        lexical = scales.lm_scale * lm_score + scales.pronunciation_scale * pronunciation_score
        return replace(
            found,
            am_score=found.am_score - lexical,
            lm_scores=(*found.lm_scores, lm_score) if self._has_lm else found.lm_scores,
            words=tuple(entry.word for entry in entries),
            word_frames=tuple(spans),
            word_labels=tuple(positions),
            pronunciation_score=pronunciation_score,
        )


def lexicon_search(
    encoder_out: Tensor,
    lengths: Tensor,
    prediction: Any,
    joint: Any,
    tree: PrefixTree,
    *,
    beam: int,
    nbest: int = 1,
    word_lm: WordScorer | None = None,
    lm_scale: float = 1.0,
    pronunciation_scale: float = 1.0,
    look_ahead: str = "ngram",
    word_end_beam: float | None = None,
    scorers: Sequence[tuple[LabelScorer, float]] = (),
    **options: Any,
) -> list[list[Hypothesis]]:
    """The ``nbest`` best word sequences of every utterance, best first.

    Args:
        encoder_out: [B, T, D_enc].
        lengths: [B] valid frames.
        prediction: Prediction network, in evaluation mode.
        joint: Joint network, in evaluation mode.
        tree: The lexicon.
        beam: Hypotheses kept per utterance and frame.
        nbest: Hypotheses returned at most. Homophones are different hypotheses.
        word_lm: Word-level language model (`WordNgram`).
        lm_scale: See :class:`LexiconOptions`, as are the next three.
        pronunciation_scale: ...
        look_ahead: ...
        word_end_beam: ...
        scorers: Label-level language models with scales.
        options: Further fields of :class:`BeamOptions`, as in :func:`beam_search`.

    Returns:
        A list of hypotheses per utterance, with ``words`` and ``word_frames``. If no complete word
        sequence survived, the best unfinished one: its ``words`` are those that ended.

    Raises:
        ValueError: An option outside its range, or a tree or LM of another vocabulary.
    """
    if nbest < 1:
        raise ValueError(f"nbest must be at least 1, got {nbest}")
    search = LexiconSearch(
        prediction,
        joint,
        tree,
        BeamOptions(beam=beam, **options),
        LexiconOptions(lm_scale, pronunciation_scale, look_ahead, word_end_beam),
        word_lm,
        scorers,
    )
    return search.search(encoder_out, lengths, nbest)
