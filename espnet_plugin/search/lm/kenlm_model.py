"""KenLM's n-gram models behind the interface of our own reader, for models too large for it.

KenLM is optional (``pip install espnet-progressive[ngram]``). Its states are Python objects; here
they get numbers. A query costs about a microsecond of Python, so a lexicon search over many words
should look ahead with ``unigram``.

Shapes: M pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.search.lm.arpa import LOG_10, NEVER
from espnet_plugin.search.lm.ngram import EOS, OOV_LOG_PROB, UNK

BINARY_SUFFIXES = (".bin", ".binary", ".klm", ".mmap")


class KenlmModel:
    """A KenLM model as a :class:`~espnet_plugin.search.lm.ngram.WordModel`.

    Args:
        path: Binary or ARPA file.
        device: Where results go; the model itself stays in the CPU's memory.

    Raises:
        ValueError: KenLM is not installed, or cannot read the file.
    """

    def __init__(self, path: str | Path, device: torch.device | str | None = None) -> None:
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such language model")
        try:
            import kenlm
        except ImportError as error:
            raise ValueError(
                f"{path}: reading KenLM's binary format, or an ARPA file as large as this, needs "
                "the package kenlm (`pip install kenlm`); or use a smaller ARPA file"
            ) from error
        try:
            self._model: Any = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path}: KenLM cannot read it: {error}") from error
        self._new_state = kenlm.State
        self.order = int(self._model.order)
        self.words: list[str] = []  # those asked for so far
        self._index: dict[str, int] = {}
        self._device = torch.device(device or "cpu")
        empty, start = kenlm.State(), kenlm.State()
        self._model.NullContextWrite(empty)
        self._model.BeginSentenceWrite(start)
        self._states: list[Any] = [empty]
        self._numbers: dict[Any, int] = {empty: 0}
        self._start = self._number(start)
        # KenLM gives a model without <unk> one of log10 p = -100.
        self._has_unk = self._model.BaseScore(empty, UNK, kenlm.State()) > NEVER
        self._cache: dict[tuple[int, int], tuple[float, int]] = {}

    def _number(self, state: Any) -> int:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        return number

    @property
    def device(self) -> torch.device:
        """Where results go."""
        return self._device

    @property
    def states(self) -> None:
        """See :class:`~espnet_plugin.search.lm.ngram.WordModel`: numbered as they appear."""
        return None

    def index(self, word: str) -> int | None:
        """A number for a word, or for <unk>; None if the model has neither."""
        if not self.knows(word):
            if not self._has_unk:
                return None
            word = UNK
        if word not in self._index:
            self._index[word] = len(self.words)
            self.words.append(word)
        return self._index[word]

    def knows(self, word: str) -> bool:
        """Whether the word itself is listed."""
        return word in self._model or (word == UNK and self._has_unk)

    def start_state(self) -> int:
        """State at the beginning of a sentence."""
        return self._start

    def lookup(self, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """log p(word | state) [M] and the state after it [M], for pairs [M], [M]."""
        found = [self._one(*pair) for pair in zip(state.tolist(), word.tolist(), strict=True)]
        log_probs = torch.tensor([log_prob for log_prob, _ in found], device=self._device)
        following = torch.tensor([number for _, number in found], device=self._device)
        return log_probs, following.to(torch.int64)

    def _one(self, state: int, word: int) -> tuple[float, int]:
        if (state, word) not in self._cache:
            after = self._new_state()
            log_10 = self._model.BaseScore(self._states[state], self.words[word], after)
            self._cache[state, word] = (log_10 * LOG_10, self._number(after))
        return self._cache[state, word]

    def sentence(self, words: Sequence[str]) -> float:
        """log p of a whole sentence with its end; unknown words count OOV_LOG_PROB."""
        state, total = self._start, 0.0
        for word in (*words, EOS):
            index = self.index(word)
            log_prob, state = (OOV_LOG_PROB, 0) if index is None else self._one(state, index)
            total += log_prob
        return total
