"""A word n-gram in a label-level search: it speaks where a word ends.

The vocabulary stays open (no lexicon restricts what is found); a word that the model does not know
costs what its ``<unk>`` or ``oov_log_prob`` says. What ends a word depends on the labels:

    char   the space, or the end of the sentence
    bpe    the next piece that begins a word ("▁"), or the end of the sentence
    phn    a phoneme with end-of-word mark; of several words with one pronunciation the model's
           favourite is taken

A state is (n-gram state, labels of the unfinished word); states are numbered as they appear.

Shapes: R rows (hypotheses), V vocabulary with blank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from espnet_plugin.search.lm.ngram import EOS, NO_LABELS, OOV_LOG_PROB, WordModel
from espnet_plugin.search.word_output import STYLES, WORD_MARK

Labels = tuple[str, ...]
# In no model, so that it scores as an unknown word; phonemes in a row might spell a real one.
_NO_WORD = "<no such word>"


class WordEndScorer:
    """A word n-gram as a :class:`~espnet_plugin.search.beam.scorers.LabelScorer`.

    Args:
        model: N-grams over words.
        token_list: Names of all V labels, blank included.
        style: One of ``char``, ``bpe``, ``phn``.
        pronunciations: For ``phn``: label sequence (with end-of-word mark) -> its words.
        device: Where the hypotheses live.
        oov_log_prob: For words the model does not have, when it has no ``<unk>`` either.

    Raises:
        ValueError: An unknown style, or ``phn`` without pronunciations.
    """

    def __init__(
        self,
        model: WordModel,
        token_list: Sequence[str],
        style: str,
        *,
        pronunciations: Mapping[Labels, Sequence[str]] | None = None,
        space: str = "<space>",
        word_end: str = "#",
        device: torch.device | str | None = None,
        oov_log_prob: float = OOV_LOG_PROB,
    ) -> None:
        if style not in STYLES:
            raise ValueError(f"style must be one of {STYLES}, got {style!r}")
        if style == "phn" and pronunciations is None:
            raise ValueError("a word language model over phonemes needs their pronunciations")
        self._model, self._style, self._tokens = model, style, list(token_list)
        self._device = torch.device(device or "cpu")
        self._oov = oov_log_prob
        self._words = pronunciations or {}
        ends = {
            "char": [token == space for token in self._tokens],
            "bpe": [token.startswith(WORD_MARK) for token in self._tokens],
            "phn": [token.endswith(word_end) for token in self._tokens],
        }[style]
        self._ends = [i for i, is_end in enumerate(ends) if is_end]
        self._is_end = frozenset(self._ends)
        self._forbidden = [i for i, token in enumerate(self._tokens) if token in NO_LABELS]
        # phn: labels that complete a word after a given beginning, with these words
        self._completions: dict[Labels, list[tuple[int, Sequence[str]]]] = {}
        index = {token: i for i, token in enumerate(self._tokens)}
        for labels, words in self._words.items():
            if labels[-1] in index:
                entry = (index[labels[-1]], words)
                self._completions.setdefault(labels[:-1], []).append(entry)
        self._clear()

    def _clear(self) -> None:
        self._numbers: dict[tuple[int, Labels], int] = {}
        self._states: list[tuple[int, Labels]] = []
        self._next: dict[tuple[int, int], int] = {}
        self._scored: dict[tuple[int, str], tuple[float, int]] = {}
        self._rows: dict[int, Tensor] = {}

    def _number(self, state: int, labels: Labels) -> int:
        key = (state, labels)
        if key not in self._numbers:
            self._numbers[key] = len(self._states)
            self._states.append(key)
        return self._numbers[key]

    # The n-gram model ----------------------------------------------------------------------------

    def _score_words(self, pairs: Iterable[tuple[int, str]]) -> None:
        """Look up what is not known yet, all at once: log p(word | state) and the state after."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._scored]
        known = [(pair, self._model.index(pair[1])) for pair in new]
        for pair, index in known:
            if index is None:
                self._scored[pair] = (self._oov, 0)
        listed = [(pair, index) for pair, index in known if index is not None]
        if not listed:
            return
        device = self._model.device
        states = torch.tensor([pair[0] for pair, _ in listed], device=device)
        words = torch.tensor([index for _, index in listed], device=device)
        log_probs, following = self._model.lookup(states, words)
        values = zip(listed, log_probs.tolist(), following.tolist(), strict=True)
        for (pair, _), log_prob, after in values:
            self._scored[pair] = (log_prob, after)

    def _best(self, state: int, words: Sequence[str]) -> tuple[float, int]:
        """The favourite among words that look alike."""
        return max((self._scored[state, word] for word in words), key=lambda found: found[0])

    def _spelled(self, labels: Labels) -> list[str]:
        """The words that an unfinished word's labels are, if it ends here."""
        if self._style == "phn":
            return list(self._words.get(labels, [_NO_WORD]))
        word = "".join(label.removeprefix(WORD_MARK) for label in labels)
        return [word] if word else []

    # LabelScorer ---------------------------------------------------------------------------------

    def start(self, rows: int) -> Tensor:
        """See :class:`LabelScorer`. Forgets the states of earlier searches."""
        self._clear()
        number = self._number(self._model.start_state(), ())
        return torch.full((rows,), number, dtype=torch.int64, device=self._device)

    def score(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`LabelScorer`: zero inside words."""
        numbers = state.tolist()
        new = [n for n in dict.fromkeys(numbers) if n not in self._rows]
        self._score_words(
            (self._states[n][0], word)
            for n in new
            for words in self._candidates(self._states[n][1])
            for word in words
        )
        for number in new:
            self._rows[number] = self._row(*self._states[number])
        return torch.stack([self._rows[n] for n in numbers]).to(self._device), state

    def _candidates(self, labels: Labels) -> list[Sequence[str]]:
        """Words that may end with the next label."""
        if self._style == "phn":
            return [words for _, words in self._completions.get(labels, [])]
        return [self._spelled(labels)]

    def _row(self, state: int, labels: Labels) -> Tensor:
        row = torch.zeros(len(self._tokens))
        row[self._forbidden] = float("-inf")
        if self._style == "phn":
            row[self._ends] = self._unknown(state)
            for label, words in self._completions.get(labels, []):
                row[label] = self._best(state, words)[0]
            return row
        words = self._spelled(labels)
        if words:
            row[self._ends] = self._best(state, words)[0]
        return row

    def _unknown(self, state: int) -> float:
        """log p of a word that no lexicon has."""
        self._score_words([(state, _NO_WORD)])
        return self._scored[state, _NO_WORD][0]

    def advance(self, state: Tensor, labels: Tensor) -> Tensor:
        """See :class:`LabelScorer`."""
        pairs = list(zip(state.tolist(), labels.tolist(), strict=True))
        for number, label in pairs:
            if (number, label) not in self._next:
                before, unfinished = self._states[number]
                self._next[number, label] = self._after(before, unfinished, label)
        return torch.tensor([self._next[pair] for pair in pairs], device=self._device)

    def _after(self, state: int, labels: Labels, label: int) -> int:
        token = self._tokens[label]
        if label not in self._is_end:
            return self._number(state, (*labels, token))
        labels = (*labels, token) if self._style == "phn" else labels
        words = self._spelled(labels)
        if words:
            self._score_words((state, word) for word in words)
            state = self._best(state, words)[1]
        return self._number(state, (token,) if self._style == "bpe" else ())

    def final(self, state: Tensor) -> Tensor:
        """See :class:`LabelScorer`: the unfinished word ends, then the sentence."""
        totals = []
        for number in state.tolist():
            before, labels = self._states[number]
            words, total = self._spelled(labels) if labels else [], 0.0
            if words:
                self._score_words((before, word) for word in words)
                total, before = self._best(before, words)
            if self._model.knows(EOS):
                self._score_words([(before, EOS)])
                total += self._scored[before, EOS][0]
            totals.append(total)
        return torch.tensor(totals, device=self._device)

    def key(self, state: Tensor) -> Tensor:
        """See :class:`LabelScorer`."""
        return state
