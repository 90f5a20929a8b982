"""Lexical prefix tree: which labels may follow a beginning of a word, and which words may end.

Works for phonemes with end-of-word marks (a word ends exactly at a marked label), for sentencepiece
units and for characters (a node may end one word and be inside another). Everything is stored as
flat tensors so that all hypotheses of a batch are advanced at once.

Shapes: C nodes (0 is the root), A arcs, E entries (a word with one pronunciation), V labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LexiconEntry:
    """A word with one pronunciation.

    Attributes:
        word: The word.
        labels: Label indices, without blank.
        log_weight: Log of the pronunciation variant's probability.
        final: Only at the end of an utterance (the last word's spelling without a space).
        separated: The last label is what stands between words, no part of the word's own time.
    """

    word: str
    labels: tuple[int, ...]
    log_weight: float = 0.0
    final: bool = False
    separated: bool = False

    @property
    def own_labels(self) -> int:
        """How many of the labels are the word itself."""
        return len(self.labels) - self.separated


def lexicon_entries(
    pronunciations: Mapping[str, Sequence[Sequence[str]]],
    token_list: Sequence[str],
    weights: Mapping[str, Sequence[float]] | None = None,
    *,
    space: str | None = None,
) -> list[LexiconEntry]:
    """Entries from label names.

    Args:
        pronunciations: The label names of every variant of every word, end-of-word marks included.
        token_list: Names of the V labels.
        weights: Probabilities of the variants, in the same order; all 1 by default.
        space: Name of a label that stands between words (``"<space>"`` of character models).

    Raises:
        ValueError: An empty lexicon, words without pronunciation or labels outside of the token
            list (all of them are named), or a weight outside (0, 1].
    """
    if not pronunciations:
        raise ValueError("the lexicon is empty: there is no word to recognise")
    index = {token: i for i, token in enumerate(token_list)}
    used = {label for variants in pronunciations.values() for v in variants for label in v}
    unknown = sorted((used | ({space} if space else set())) - index.keys())
    if unknown:
        raise ValueError(
            f"{len(unknown)} labels of the lexicon are not in the token list of {len(index)}: "
            f"{' '.join(unknown)}; the lexicon belongs to another model"
        )
    silent = sorted(
        w for w, variants in pronunciations.items() if not variants or not all(variants)
    )
    if silent:
        raise ValueError(f"{len(silent)} words have no pronunciation: {' '.join(silent)}")
    entries = []
    for word, variants in pronunciations.items():
        shares = [1.0] * len(variants) if weights is None else weights[word]
        for variant, share in zip(variants, shares, strict=True):
            if not 0.0 < share <= 1.0:
                raise ValueError(f"pronunciation weight {share} of {word!r} is not in (0, 1]")
            labels = tuple(index[label] for label in variant)
            entries.append(LexiconEntry(word, labels, math.log(share), final=space is not None))
            if space is not None:
                spaced = (*labels, index[space])
                entries.append(LexiconEntry(word, spaced, math.log(share), separated=True))
    return entries


class PrefixTree:
    """The tree of a list of entries.

    Attributes:
        words: All words, in order of first appearance.
        entries: Sorted by node; final ones are kept apart in ``final_entries``.
        entry_word, entry_weight: [E] word index and log weight.
        first_entry, entry_count: [C] range of the entries that end at a node.
        first_final, final_count: [C] the same among the final entries.
        first_arc, arc_count: [C] range of the arcs that leave a node.
        arc_label, arc_node: [A] label and target.
        parent: [C]; depth: [C] labels since the root.

    Raises:
        ValueError: No entries, an entry without labels, or a label outside of the vocabulary.
    """

    def __init__(
        self,
        entries: Sequence[LexiconEntry],
        vocab_size: int,
        *,
        blank: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        if not entries:
            raise ValueError("the lexicon is empty: there is no word to recognise")
        wrong = sorted(
            {e.word for e in entries if not e.labels}
            | {
                e.word
                for e in entries
                if any(not 0 <= v < vocab_size or v == blank for v in e.labels)
            }
        )
        if wrong:
            raise ValueError(
                f"{len(wrong)} words have no labels, blank ({blank}) or labels outside of the "
                f"vocabulary of {vocab_size} in their pronunciation: {' '.join(wrong)}"
            )
        self.vocab_size, self.blank = vocab_size, blank
        self.words = list(dict.fromkeys(entry.word for entry in entries))
        self._word_index = {word: i for i, word in enumerate(self.words)}
        self._grow(entries, device)

    def _grow(self, entries: Sequence[LexiconEntry], device: torch.device | str | None) -> None:
        children: list[dict[int, int]] = [{}]
        parent, depth = [0], [0]
        at_node: list[tuple[int, LexiconEntry]] = []
        for entry in dict.fromkeys(entries):
            node = 0
            for label in entry.labels:
                if label not in children[node]:
                    children[node][label] = len(children)
                    children.append({})
                    parent.append(node)
                    depth.append(depth[node] + 1)
                node = children[node][label]
            at_node.append((node, entry))
        at_node.sort(key=lambda item: item[0])

        def tensor(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        self.parent, self.depth = tensor(parent), tensor(depth)
        arcs = [
            (n, label, c) for n, node in enumerate(children) for label, c in sorted(node.items())
        ]
        self.arc_label, self.arc_node = tensor([a[1] for a in arcs]), tensor([a[2] for a in arcs])
        self._arc_code = tensor([a[0] * self.vocab_size + a[1] for a in arcs])
        self.arc_count = tensor([len(node) for node in children])
        self.first_arc = self.arc_count.cumsum(0) - self.arc_count
        self.entries = [e for _, e in at_node if not e.final]
        self.final_entries = [e for _, e in at_node if e.final]
        self.all_entries = self.entries + self.final_entries
        middle = [n for n, e in at_node if not e.final]
        final = [n for n, e in at_node if e.final]
        self.entry_node = tensor(middle + final)
        self.entry_word = tensor([self._word_index[e.word] for e in self.all_entries])
        self.entry_weight = torch.tensor([e.log_weight for e in self.all_entries], device=device)
        count = len(children)
        self.entry_count = torch.bincount(tensor(middle), minlength=count)
        self.first_entry = self.entry_count.cumsum(0) - self.entry_count
        self.final_count = torch.bincount(tensor(final), minlength=count)
        self.first_final = len(middle) + self.final_count.cumsum(0) - self.final_count

    @property
    def nodes(self) -> int:
        """C."""
        return len(self.parent)

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.parent.device

    def child(self, node: Tensor, label: Tensor) -> Tensor:
        """Node after one more label, [R], [R] -> [R]; the arc must exist (else any node)."""
        code = node * self.vocab_size + label
        arc = torch.searchsorted(self._arc_code, code).clamp_max(len(self._arc_code) - 1)
        return self.arc_node[arc]


def ranges(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """All members of ranges: [R], [R] -> (range number [P], member first + 0 .. count - 1 [P])."""
    owner = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    start = count.cumsum(0) - count
    offset = torch.arange(len(owner), device=count.device) - start[owner]
    return owner, first[owner] + offset
