"""Alignment of references and hypotheses that have alternatives and optional words.

NIST's marks: ``{ GOING TO / GONNA }`` are alternatives (``@`` is an empty one), ``(UH)`` may be
left out, ``TH-`` is a fragment, right with any word that begins with it. A text becomes a graph
whose paths are the ways to read it; two graphs are aligned at the least cost over all pairs of
paths,

    D[i, j] = min over the arcs a into i and b into j of
              D[src a, src b] + sub * [a != b],  D[src a, j] + gap,  D[i, src b] + gap

with NIST sclite's weights: 4 a substitution, 3 a gap, 2 a word left out that may be. Such a word
counts as correct, as do fragments.

Shape legend: none; the graphs are small, a segment at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from espnet_plugin.scoring.edit_distance import Counts

SUBSTITUTION, GAP, OPTIONAL_GAP = 4, 3, 2

_TOKEN = re.compile(r"[{}/()]|[^\s{}/()]+")


@dataclass(frozen=True)
class Arc:
    """From a node to a later one; without a word if it only connects."""

    source: int
    target: int
    word: str | None
    optional: bool = False


@dataclass(frozen=True)
class WordGraph:
    """Nodes 0 (begin) to `last` (end), numbered so that every arc leads to a higher one."""

    last: int
    incoming: tuple[tuple[Arc, ...], ...]


def word_graph(text: str) -> WordGraph:
    """Read NIST's marks.

    Raises:
        ValueError: brackets that do not match.
    """
    arcs, last = _Reader(_TOKEN.findall(text), text).read()
    incoming: list[list[Arc]] = [[] for _ in range(last + 1)]
    for arc in arcs:
        incoming[arc.target].append(arc)
    return WordGraph(last, tuple(tuple(found) for found in incoming))


class _Reader:
    """Recursive descent: a sequence of words, ``( sequence )`` and ``{ sequence / sequence }``."""

    def __init__(self, tokens: Sequence[str], text: str) -> None:
        self._tokens, self._text, self._at = tokens, text, 0
        self._arcs: list[Arc] = []
        self._nodes = 1

    def read(self) -> tuple[list[Arc], int]:
        end = self._sequence(0, False, ())
        if self._at < len(self._tokens):
            self._fail()
        if end != self._nodes - 1:
            self._connect(end, self._node())
        return self._arcs, self._nodes - 1

    def _sequence(self, node: int, optional: bool, closing: Sequence[str]) -> int:
        while self._at < len(self._tokens) and self._tokens[self._at] not in closing:
            token = self._tokens[self._at]
            self._at += 1
            if token == "(":
                node = self._sequence(node, True, (")",))
                self._expect(")")
            elif token == "{":
                node = self._alternatives(node, optional)
            elif token in ")}" or (token == "/" and closing):
                self._fail()
            elif token not in "@/":
                target = self._node()
                self._arcs.append(Arc(node, target, token, optional))
                node = target
        return node

    def _alternatives(self, node: int, optional: bool) -> int:
        ends = [self._sequence(node, optional, ("/", "}"))]
        while self._at < len(self._tokens) and self._tokens[self._at] == "/":
            self._at += 1
            ends.append(self._sequence(node, optional, ("/", "}")))
        self._expect("}")
        target = self._node()
        for end in ends:
            self._connect(end, target)
        return target

    def _node(self) -> int:
        self._nodes += 1
        return self._nodes - 1

    def _connect(self, source: int, target: int) -> None:
        self._arcs.append(Arc(source, target, None))

    def _expect(self, token: str) -> None:
        if self._at >= len(self._tokens) or self._tokens[self._at] != token:
            self._fail()
        self._at += 1

    def _fail(self) -> None:
        raise ValueError(f"brackets do not match in {self._text!r}")


# cost, then errors, then fewest reference words; and the four counts that lead there
_State = tuple[int, int, int, int, int, int, int]
_START: _State = (0, 0, 0, 0, 0, 0, 0)


def align_graphs(reference: WordGraph, hypothesis: WordGraph) -> Counts:
    """Counts of the cheapest alignment; of several, of the one with the fewest errors."""
    table: list[list[_State]] = []
    for i in range(reference.last + 1):
        row: list[_State] = []
        table.append(row)
        for j in range(hypothesis.last + 1):
            if i == j == 0:
                row.append(_START)
            else:
                row.append(min(_steps(table, reference, hypothesis, i, j)))
    _, errors, tokens, correct, substitutions, deletions, insertions = table[-1][-1]
    return Counts(1, tokens, correct, substitutions, deletions, insertions, int(errors > 0))


def _steps(
    table: list[list[_State]], reference: WordGraph, hypothesis: WordGraph, i: int, j: int
) -> Iterator[_State]:
    """All ways to reach the nodes i and j."""
    for a in reference.incoming[i]:
        before = table[a.source][j]
        if a.word is None:
            yield before
        elif a.optional:
            yield _add(before, OPTIONAL_GAP, 1, 1)
        else:
            yield _add(before, GAP, 1, deletions=1)
        for b in hypothesis.incoming[j]:
            if a.word is None or b.word is None:
                continue
            before = table[a.source][b.source]
            if _same(a.word, b.word):
                yield _add(before, 0, 1, 1)
            else:
                yield _add(before, SUBSTITUTION, 1, substitutions=1)
    for b in hypothesis.incoming[j]:
        before = table[i][b.source]
        yield before if b.word is None else _add(before, GAP, insertions=1)


def _same(reference: str, hypothesis: str) -> bool:
    if reference == hypothesis:
        return True
    if reference.endswith("-"):
        return hypothesis.startswith(reference[:-1])
    if reference.startswith("-"):
        return hypothesis.endswith(reference[1:])
    return False


def _add(
    state: _State,
    cost: int,
    tokens: int = 0,
    correct: int = 0,
    substitutions: int = 0,
    deletions: int = 0,
    insertions: int = 0,
) -> _State:
    errors = substitutions + deletions + insertions
    added = (cost, errors, tokens, correct, substitutions, deletions, insertions)
    total = tuple(a + b for a, b in zip(state, added, strict=True))
    return total  # type: ignore[return-value]
