"""Word-level language models for the lexicon search, and their look-ahead into the prefix tree.

Look-ahead: inside a word the language model's verdict is not known yet, but its best case is,

    la(n, s) = max over words w below node n of  λ_LM log p(w | s) + λ_pron log p(pronunciation),

and pruning with it keeps words apart that the model will not accept. It is taken back when the word
ends, so that it changes what is pruned, never a final score.

Shapes: M pairs, U language-model states, W words of the tree, C tree nodes, E entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from espnet_plugin.search.lexicon.prefix_tree import PrefixTree
from espnet_plugin.search.lm.ngram import EOS, OOV_LOG_PROB, WordModel
from espnet_plugin.search.scaling import scaled

LOOK_AHEADS = ("none", "unigram", "ngram")
MAX_CACHED_FLOATS = 50_000_000


class WordScorer(Protocol):
    """A language model over the words of a prefix tree; states are int64 numbers."""

    @property
    def states(self) -> int | None:
        """How many states there are; None: they are numbered as they appear."""
        ...

    def start_state(self) -> int:
        """State at the beginning of a sentence."""
        ...

    def empty_state(self) -> int:
        """State of an unknown history (for the static look-ahead)."""
        ...

    def lookup(self, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """log p(word | state) [M] and the states after it [M]; words are the tree's indices."""
        ...

    def final(self, state: Tensor) -> Tensor:
        """log p(end of sentence | state) [M]."""
        ...


class WordNgram:
    """An n-gram model as a word scorer.

    Args:
        model: N-grams over words.
        words: The tree's words, in its order.
        oov_log_prob: For words the model does not have, when it has no ``<unk>`` either.
        unk_penalty: Added to ``<unk>``'s log-probability, which stands for all unknown words
            together.

    Raises:
        ValueError: The model has none of the words.
    """

    def __init__(
        self,
        model: WordModel,
        words: Sequence[str],
        *,
        oov_log_prob: float = OOV_LOG_PROB,
        unk_penalty: float = 0.0,
    ) -> None:
        unknown = [word for word in words if not model.knows(word)]
        if len(unknown) == len(words):
            raise ValueError(
                f"none of the {len(words)} words of the lexicon ({' '.join(words[:5])} ...) is in "
                "the word n-gram model: it was made for another language, or for other spellings"
            )
        self._model = model
        self.unknown = unknown
        indices = [model.index(word) for word in words]
        device = model.device
        self._index = torch.tensor([i or 0 for i in indices], device=device)  # [W]
        self._oov = torch.tensor([i is None for i in indices], device=device)
        is_unk = torch.tensor([not model.knows(word) for word in words], device=device) & ~self._oov
        self._penalty = is_unk.float() * unk_penalty  # [W]
        self._oov_log_prob = oov_log_prob
        self._eos = model.index(EOS) if model.knows(EOS) else None

    @property
    def states(self) -> int | None:
        """See :class:`WordScorer`."""
        return self._model.states

    def start_state(self) -> int:
        """See :class:`WordScorer`."""
        return self._model.start_state()

    def empty_state(self) -> int:
        """See :class:`WordScorer`."""
        return 0

    def lookup(self, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`WordScorer`."""
        log_prob, following = self._model.lookup(state, self._index[word])
        oov = self._oov[word]
        log_prob = log_prob.masked_fill(oov, self._oov_log_prob) + self._penalty[word]
        return log_prob, following.masked_fill(oov, 0)

    def final(self, state: Tensor) -> Tensor:
        """See :class:`WordScorer`."""
        if self._eos is None:
            return torch.zeros(len(state), device=state.device)
        return self._model.lookup(state, torch.full_like(state, self._eos))[0]


class NoWordLm:
    """Every word is as good as every other: the lexicon only constrains."""

    states = 1

    def start_state(self) -> int:
        """See :class:`WordScorer`."""
        return 0

    def empty_state(self) -> int:
        """See :class:`WordScorer`."""
        return 0

    def lookup(self, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`WordScorer`."""
        return torch.zeros(len(state), device=state.device), state

    def final(self, state: Tensor) -> Tensor:
        """See :class:`WordScorer`."""
        return torch.zeros(len(state), device=state.device)


class LookAhead:
    """la(n, s) in units of the total score, 0 at the root; rows per LM state made when needed."""

    def __init__(
        self, tree: PrefixTree, lm: WordScorer, lm_scale: float, weight_scale: float, kind: str
    ) -> None:
        if kind not in LOOK_AHEADS:
            raise ValueError(f"look-ahead must be one of {LOOK_AHEADS}, got {kind!r}")
        self._tree, self._lm, self._kind = tree, lm, kind
        self._lm_scale, self._weight_scale = lm_scale, weight_scale
        levels = range(int(tree.depth.max()), 0, -1)
        self._levels = [(tree.depth == d).nonzero().flatten() for d in levels]
        self._clear()

    def _clear(self) -> None:
        self._row_of_state: dict[int, int] = {}
        self._rows = torch.empty(0, self._tree.nodes, device=self._tree.device)
        if self._kind == "none":
            self._rows = torch.zeros(1, self._tree.nodes, device=self._tree.device)
        elif self._kind == "unigram":
            empty = torch.tensor([self._lm.empty_state()], device=self._tree.device)
            self._rows = self._compute(empty)

    def rows(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """(la of some states [U, C], which of its rows belongs to each of ``state`` [R])."""
        if self._kind != "ngram":
            return self._rows, torch.zeros_like(state)
        distinct, inverse = torch.unique(state, return_inverse=True)
        numbers = distinct.tolist()
        if self._rows.numel() > MAX_CACHED_FLOATS:
            self._clear()
        missing = [number for number in numbers if number not in self._row_of_state]
        if missing:
            for number in missing:
                self._row_of_state[number] = len(self._row_of_state)
            made = self._compute(torch.tensor(missing, device=state.device))
            self._rows = torch.cat([self._rows, made])
        row = torch.tensor([self._row_of_state[n] for n in numbers], device=state.device)
        return self._rows, row[inverse]

    def _compute(self, states: Tensor) -> Tensor:
        """[U] -> [U, C], bottom up: a node's value is the best of its entries and children."""
        tree, count = self._tree, len(self._tree.words)
        words = torch.arange(count, device=states.device)
        flat, _ = self._lm.lookup(states.repeat_interleave(count), words.repeat(len(states)))
        scores = scaled(flat, self._lm_scale).view(-1, count)[:, tree.entry_word]  # [U, E]
        scores = scores + self._weight_scale * tree.entry_weight
        best = scores.new_full((len(states), tree.nodes), float("-inf"))
        best.scatter_reduce_(1, tree.entry_node.expand_as(scores), scores, "amax")
        for nodes in self._levels:
            values = best[:, nodes]
            best.scatter_reduce_(1, tree.parent[nodes].expand_as(values), values, "amax")
        best[:, 0] = 0.0
        return best
