"""Alignment of token sequences with the fewest edits, many sentence pairs at once.

With r_1..r_R the reference and h_1..h_H the hypothesis, the cost of aligning their first i and j
tokens is (Wagner and Fischer, 1974)

    D[i, j] = min( D[i-1, j-1] + [r_i != h_j] * sub,  D[i-1, j] + gap,  D[i, j-1] + gap )
    D[i, 0] = i * gap,  D[0, j] = j * gap.

The third term makes a row depend on itself; D[i, j] = min_{k <= j} (M[k] + (j - k) * gap), with M
the minimum of the first two terms, turns it into a running minimum, so that a row is a handful of
array operations for a whole batch of pairs. Among the cheapest alignments the one with the fewest
substitutions (hence the most correct tokens) is taken, which makes all counts unique.

Shape legend: B sentence pairs, R reference tokens, H hypothesis tokens (both padded).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CORRECT, SUBSTITUTION, DELETION, INSERTION = range(4)

_MAX_CELLS = 1 << 24  # of the table of steps, one byte each, that a batch may take

IntArray = NDArray[np.int64]
Steps = NDArray[np.uint8]


@dataclass(frozen=True)
class Costs:
    """Cost of a substitution and of a gap (deletion or insertion).

    The default is the edit distance proper. NIST's sclite uses 4 and 3, which now and then counts
    one error more than needed, in exchange for more correct words.

    Raises:
        ValueError: a cost below 1.
    """

    substitution: int = 1
    gap: int = 1

    def __post_init__(self) -> None:
        if min(self.substitution, self.gap) < 1:
            raise ValueError(f"costs must be at least 1, got {self}")


EDIT_COSTS = Costs()
SCLITE_COSTS = Costs(substitution=4, gap=3)


@dataclass(frozen=True)
class Counts:
    """Counts over sentences; counts of parts of a test set can be added."""

    sentences: int = 0
    tokens: int = 0
    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    wrong_sentences: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(self._values(), other._values(), strict=True)))

    def _values(self) -> tuple[int, ...]:
        return (
            self.sentences,
            self.tokens,
            self.correct,
            self.substitutions,
            self.deletions,
            self.insertions,
            self.wrong_sentences,
        )

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def error_rate(self) -> float:
        """Errors in per cent of the reference's tokens; NaN for an empty reference."""
        return self.percent(self.errors)

    @property
    def sentence_error_rate(self) -> float:
        """Sentences with any error, in per cent."""
        return 100.0 * self.wrong_sentences / self.sentences if self.sentences else float("nan")

    def percent(self, count: int) -> float:
        """`count` in per cent of the reference's tokens; NaN for an empty reference."""
        return 100.0 * count / self.tokens if self.tokens else float("nan")


def count_errors(steps: Steps) -> Counts:
    """Counts of one aligned sentence pair."""
    correct, substitutions, deletions, insertions = np.bincount(steps, minlength=4).tolist()
    return Counts(
        sentences=1,
        tokens=correct + substitutions + deletions,
        correct=correct,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        wrong_sentences=int(correct != len(steps)),
    )


def align(
    references: Sequence[Sequence[str]],
    hypotheses: Sequence[Sequence[str]],
    costs: Costs = EDIT_COSTS,
) -> list[Steps]:
    """Align each reference with its hypothesis.

    Returns:
        For each pair the steps from the sentence's beginning to its end: CORRECT, SUBSTITUTION
        (one token of each side), DELETION (a reference token alone), INSERTION.

    Raises:
        ValueError: not as many hypotheses as references.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references and {len(hypotheses)} hypotheses")
    vocabulary: dict[str, int] = {}
    pairs = [
        tuple([vocabulary.setdefault(t, len(vocabulary)) for t in side] for side in pair)
        for pair in zip(references, hypotheses, strict=True)
    ]
    aligned: list[Steps] = [np.zeros(0, np.uint8)] * len(pairs)
    for batch in _batches([(len(r), len(h)) for r, h in pairs]):
        reference, reference_lengths = _pad([pairs[n][0] for n in batch])
        hypothesis, hypothesis_lengths = _pad([pairs[n][1] for n in batch])
        table = _step_table(reference, hypothesis, costs)
        steps = _trace_back(table, reference_lengths, hypothesis_lengths)
        for n, sentence in zip(batch, steps, strict=True):
            aligned[n] = sentence
    return aligned


def _batches(lengths: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Group pairs of similar length, so that little of a table is padding."""
    batch: list[int] = []
    rows = columns = 1
    for n in sorted(range(len(lengths)), key=lambda n: lengths[n]):
        grown = max(rows, lengths[n][0] + 1), max(columns, lengths[n][1] + 1)
        if batch and (len(batch) + 1) * grown[0] * grown[1] > _MAX_CELLS:
            yield batch
            batch, grown = [], (lengths[n][0] + 1, lengths[n][1] + 1)
        batch.append(n)
        rows, columns = grown
    if batch:
        yield batch


def _pad(sequences: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
    """Return the sequences as one array [B, longest], padded with -1, and their lengths [B]."""
    lengths = np.array([len(s) for s in sequences], np.int64)
    padded = np.full((len(sequences), int(lengths.max(initial=0))), -1, np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded, lengths


def _step_table(reference: IntArray, hypothesis: IntArray, costs: Costs) -> Steps:
    """Return [R+1, B, H+1]: the last step of the best alignment of the first i and j tokens.

    One integer carries cost and number of substitutions, cost first: cost * scale + substitutions.
    """
    rows, columns = reference.shape[1], hypothesis.shape[1]
    scale = min(rows, columns) + 1  # more than the substitutions there can be
    gap, substitution = costs.gap * scale, costs.substitution * scale + 1
    ramp = np.arange(columns + 1, dtype=np.int64) * gap  # [H+1]
    cost = np.tile(ramp, (len(reference), 1))  # [B, H+1]
    table = np.full((rows + 1, len(reference), columns + 1), INSERTION, np.uint8)
    table[1:, :, 0] = DELETION
    for i in range(1, rows + 1):
        differs = hypothesis != reference[:, i - 1 : i]  # [B, H]
        diagonal = cost[:, :-1] + differs * substitution  # [B, H]
        deletion = cost + gap  # [B, H+1]
        best = deletion.copy()
        np.minimum(best[:, 1:], diagonal, out=best[:, 1:])
        best -= ramp
        np.minimum.accumulate(best, axis=1, out=best)
        best += ramp
        step = table[i, :, 1:]
        step[best[:, 1:] == deletion[:, 1:]] = DELETION
        on_diagonal = best[:, 1:] == diagonal
        step[on_diagonal] = differs[on_diagonal]  # CORRECT 0, SUBSTITUTION 1
        cost = best
    return table


def _trace_back(
    table: Steps, reference_lengths: IntArray, hypothesis_lengths: IntArray
) -> list[Steps]:
    """Follow the steps from the ends of the pairs to their beginnings, all pairs together."""
    i, j = reference_lengths.copy(), hypothesis_lengths.copy()  # [B]
    pairs = np.arange(len(i))
    longest = int((i + j).max(initial=0))
    path = np.zeros((longest, len(i)), np.uint8)  # written from the end
    taken = np.zeros(len(i), np.int64)
    for k in range(longest):
        open_pairs = (i > 0) | (j > 0)
        if not open_pairs.any():
            break
        step = table[i, pairs, j]  # [B]
        path[longest - 1 - k] = step
        taken += open_pairs
        i -= open_pairs & (step != INSERTION)
        j -= open_pairs & (step != DELETION)
    return [path[longest - n :, b].copy() for b, n in enumerate(taken.tolist())]


def distances(sequence: IntArray, candidates: IntArray, lengths: IntArray) -> IntArray:
    """Levenshtein distance of one sequence [R] to each of many [B, H] with their lengths [B]."""
    ramp = np.arange(candidates.shape[1] + 1, dtype=np.int64)  # [H+1]
    cost = np.tile(ramp, (len(candidates), 1))  # [B, H+1]
    for token in sequence:
        best = cost + 1
        np.minimum(best[:, 1:], cost[:, :-1] + (candidates != token), out=best[:, 1:])
        cost = np.minimum.accumulate(best - ramp, axis=1) + ramp
    at_end: IntArray = cost[np.arange(len(lengths)), lengths]  # [B]
    return at_end
