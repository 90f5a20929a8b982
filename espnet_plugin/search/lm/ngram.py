"""Back-off n-gram language models as tensors, for labels or words.

    p(w | c) = p*(w | c)                      if the n-gram (c, w) is listed,
             = bow(c) · p(w | c without its oldest word)     otherwise.

A *state* is a context some listed n-gram extends, or that has a back-off weight; state 0 is the
empty context. Words are looked up by binary search in one sorted table of (state, word) codes, for
any number of (state, word) pairs at once.

Shapes: M pairs, R rows (hypotheses), W words, E listed n-grams, C states, V labels with blank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from espnet_plugin.search.lm.arpa import ArpaNgrams, read_arpa_ngrams

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
# LibriSpeech's models write it in capitals; KenLM takes both. One of probability zero is none.
UNKNOWNS = (UNK, "<UNK>")
# Tokens of an ESPnet token list that are no labels of the language.
NO_LABELS = ("<blank>", "<sos/eos>", BOS, EOS)
OOV_LOG_PROB = -23.0  # about 1e-10
MAX_CACHED_FLOATS = 50_000_000


class WordModel(Protocol):
    """What n-gram models have in common, whoever read them; states and words are numbers."""

    @property
    def device(self) -> torch.device:
        """Where results are."""
        ...

    def index(self, word: str) -> int | None:
        """Index of a word, or of <unk> for an unknown one; None if there is no <unk> either."""
        ...

    def knows(self, word: str) -> bool:
        """Whether the word itself is listed."""
        ...

    @property
    def states(self) -> int | None:
        """How many states there are; None: they are numbered as they appear."""
        ...

    def start_state(self) -> int:
        """State at the beginning of a sentence."""
        ...

    def lookup(self, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """log p(word | state) [M] and the state after it [M], for pairs [M], [M]."""
        ...

    def sentence(self, words: Sequence[str]) -> float:
        """log p of a whole sentence with its end; unknowable words count OOV_LOG_PROB."""
        ...


class NgramModel:
    """A back-off n-gram model as a table of tensors.

    Attributes:
        words: All words of the model, in index order.
        order: Longest n-gram.
    """

    def __init__(self, ngrams: ArpaNgrams, device: torch.device | str | None = None) -> None:
        grams = ngrams.grams
        self.order = len(grams)
        self.words = [gram[0] for gram in grams[0]]
        self._index = {word: i for i, word in enumerate(self.words)}
        possible = {word for (word,), (log_prob, _) in grams[0].items() if log_prob > -math.inf}
        self._unk = next((self._index[name] for name in UNKNOWNS if name in possible), None)
        states: dict[tuple[str, ...], int] = {(): 0}
        for section in grams:
            for gram, (_, backoff) in section.items():
                if gram[:-1] not in states:
                    states[gram[:-1]] = len(states)
                if backoff != 0.0 and len(gram) < self.order and gram not in states:
                    states[gram] = len(states)
        self._states = states

        codes, log_probs, following = [], [], []
        for section in grams:
            for gram, (log_prob, _) in section.items():
                codes.append(states[gram[:-1]] * len(self.words) + self._index[gram[-1]])
                log_probs.append(log_prob)
                following.append(self._longest(gram))
        backoffs = [0.0] * len(states)
        shorter = [0] * len(states)
        for context, state in states.items():
            if context:
                backoffs[state] = grams[len(context) - 1].get(context, (0.0, 0.0))[1]
                shorter[state] = self._longest(context[1:])
        order = torch.tensor(codes).argsort()
        self._codes = torch.tensor(codes)[order].to(device)  # [E]
        self._log_probs = torch.tensor(log_probs)[order].to(device)  # [E]
        self._following = torch.tensor(following)[order].to(device)  # [E]
        self._backoffs = torch.tensor(backoffs).to(device)  # [C]
        self._shorter = torch.tensor(shorter).to(device)  # [C]

    def _longest(self, words: tuple[str, ...]) -> int:
        """State of the longest suffix that is a state."""
        while words not in self._states:
            words = words[1:]
        return self._states[words]

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self._codes.device

    @property
    def states(self) -> int:
        """C."""
        return len(self._states)

    def index(self, word: str) -> int | None:
        """Index of a word, or of <unk> for an unknown one; None if there is no <unk> either."""
        return self._index.get(word, self._unk)

    def knows(self, word: str) -> bool:
        """Whether the word itself is listed."""
        return word in self._index

    def start_state(self) -> int:
        """State at the beginning of a sentence."""
        return self._longest((BOS,)) if BOS in self._index else 0

    def lookup(self, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """log p(word | state) [M] and the state after it [M], for pairs [M], [M]."""
        log_prob = torch.zeros(len(state), device=self.device)
        following = torch.zeros_like(state)
        pending = torch.ones_like(state, dtype=torch.bool)
        for _ in range(self.order):
            code = state * len(self.words) + word
            position = torch.searchsorted(self._codes, code).clamp_max(len(self._codes) - 1)
            found = self._codes[position] == code
            step = torch.where(found, self._log_probs[position], self._backoffs[state])
            log_prob = torch.where(pending, log_prob + step, log_prob)
            following = torch.where(pending & found, self._following[position], following)
            pending = pending & ~found
            state = torch.where(pending, self._shorter[state], state)
        return log_prob, following

    def sentence(self, words: Sequence[str]) -> float:
        """log p of a whole sentence with its end; unknowable words count OOV_LOG_PROB."""
        state = torch.tensor([self.start_state()], device=self.device)
        total = 0.0
        for word in (*words, EOS):
            index = self.index(word)
            if index is None:
                total, state = total + OOV_LOG_PROB, torch.zeros_like(state)
                continue
            log_prob, state = self.lookup(state, state.new_tensor([index]))
            total += float(log_prob)
        return total


def read_arpa(path: str | Path, device: torch.device | str | None = None) -> NgramModel:
    """An n-gram model from an ARPA file (plain or .gz).

    Raises:
        ValueError: See :func:`espnet_plugin.search.lm.arpa.read_arpa_ngrams`.
        FileNotFoundError: There is no such file.
    """
    return NgramModel(read_arpa_ngrams(path), device)


class NgramScorer:
    """A label-level n-gram model as a :class:`~espnet_plugin.search.beam.scorers.LabelScorer`.

    Args:
        model: N-grams over the transducer's own labels.
        token_list: Names of all V labels, blank included.
        device: Where the hypotheses live.
        oov_log_prob: For labels the model cannot know (neither listed nor an ``<unk>``).

    Raises:
        ValueError: Less than half of the labels are listed: a model of another vocabulary.
    """

    def __init__(
        self,
        model: NgramModel,
        token_list: Sequence[str],
        *,
        device: torch.device | str | None = None,
        oov_log_prob: float = OOV_LOG_PROB,
    ) -> None:
        labels = [token for token in token_list if token not in (*NO_LABELS, UNK)]
        missing = [token for token in labels if not model.knows(token)]
        if 2 * len(missing) > len(labels):
            raise ValueError(
                f"{len(missing)} of {len(labels)} labels are not in the n-gram model, which has "
                f"{len(model.words)} words (missing: {' '.join(missing[:10])} ...): it was made "
                "for another vocabulary"
            )
        self._model, self._device = model, torch.device(device or model.device)
        indices = [None if t in NO_LABELS else model.index(t) for t in token_list]
        self._words = torch.tensor([i or 0 for i in indices], device=model.device)  # [V]
        self._oov = torch.tensor([i is None for i in indices], device=model.device)
        self._forbidden = torch.tensor([t in NO_LABELS for t in token_list], device=model.device)
        self._oov_log_prob = oov_log_prob
        eos = model.index(EOS) if model.knows(EOS) else None
        self._eos = eos
        self._row_of_state = torch.full((model.states,), -1, device=model.device)
        self._clear()

    def _clear(self) -> None:
        vocab, device = len(self._words), self._model.device
        self._row_of_state.fill_(-1)
        self._log_probs = torch.empty(0, vocab, device=device)
        self._next = torch.empty(0, vocab, dtype=torch.int64, device=device)

    def start(self, rows: int) -> Tensor:
        """See :class:`LabelScorer`."""
        return torch.full((rows,), self._model.start_state(), device=self._device)

    def score(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`LabelScorer`."""
        rows = self._find(state.to(self._model.device))
        return self._log_probs[rows].to(self._device), state

    def advance(self, state: Tensor, labels: Tensor) -> Tensor:
        """See :class:`LabelScorer`."""
        rows = self._find(state.to(self._model.device))
        return self._next[rows, labels.to(rows.device)].to(self._device)

    def final(self, state: Tensor) -> Tensor:
        """See :class:`LabelScorer`."""
        if self._eos is None:
            return torch.zeros(len(state), device=self._device)
        state = state.to(self._model.device)
        log_prob, _ = self._model.lookup(state, torch.full_like(state, self._eos))
        return log_prob.to(self._device)

    def key(self, state: Tensor) -> Tensor:
        """See :class:`LabelScorer`."""
        return state

    def _find(self, state: Tensor) -> Tensor:
        """Rows of the cache, computed for states seen for the first time. [R] -> [R]."""
        rows = self._row_of_state[state]
        if bool((rows >= 0).all()):
            return rows
        if self._log_probs.numel() > MAX_CACHED_FLOATS:
            self._clear()
            rows = self._row_of_state[state]
        new = torch.unique(state[rows < 0])
        vocab = len(self._words)
        log_prob, following = self._model.lookup(
            new.repeat_interleave(vocab), self._words.repeat(len(new))
        )
        log_prob = log_prob.view(-1, vocab).masked_fill(self._oov, self._oov_log_prob)
        log_prob = log_prob.masked_fill(self._forbidden, float("-inf"))
        following = following.view(-1, vocab).masked_fill(self._oov, 0)
        count = len(self._log_probs)
        self._row_of_state[new] = torch.arange(count, count + len(new), device=new.device)
        self._log_probs = torch.cat([self._log_probs, log_prob])
        self._next = torch.cat([self._next, following])
        return self._row_of_state[state]
