"""Lexicon search by enumeration: every way to read a label sequence as words. Nothing of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from tests.reference.search_enumeration import Labels, log_add

Entry = tuple[str, Labels, float, bool]  # word, labels, log weight, only at the end
Words = tuple[str, ...]


def segmentations(labels: Labels, entries: Sequence[Entry]) -> Iterator[tuple[Words, float]]:
    """(words, summed log weight) of every way to cut ``labels`` into pronunciations."""
    if not labels:
        yield (), 0.0
    for word, pronunciation, weight, final in entries:
        n = len(pronunciation)
        if labels[:n] == pronunciation and (not final or n == len(labels)):
            for rest, rest_weight in segmentations(labels[n:], entries):
                yield (word, *rest), weight + rest_weight


def all_sentences(
    sequences: dict[Labels, float],
    entries: Sequence[Entry],
    lm: Callable[[Words], float],
    lm_scale: float,
    weight_scale: float,
) -> list[tuple[float, Words, Labels]]:
    """Every (words, labels) with its score, best first; ``sequences``: log P(labels | x)."""
    totals: dict[tuple[Words, Labels], float] = {}
    for labels, acoustic in sequences.items():
        for words, weight in segmentations(labels, entries):
            score = acoustic + weight_scale * weight + lm_scale * lm(words)
            old = totals.get((words, labels), -math.inf)
            totals[words, labels] = log_add(old, score)
    return sorted(((s, w, a) for (w, a), s in totals.items()), key=lambda item: -item[0])
