"""One step of the compiled search: scores, the best candidates, new hypotheses.

Means the same as `expansion.py`; ties are won by the lower slot, then by the lower label.
Arrays and their columns: `layout.py`.

Shapes: W slots, C candidates, N rows of models' states, V vocabulary with blank, P scorers.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from espnet_plugin.search.beam.compiled.layout import (
    BEAM,
    BEST_PATH,
    CLOCK,
    CODE,
    KEY,
    LABEL,
    LAST,
    LINKED,
    NEXT_CODE,
    NODE,
    NODE_FRAME,
    NODE_LABEL,
    NODES,
    NOT_EVALUATED,
    OLDEST,
    PARENT,
    PARENT_KEY,
    PARTS,
    SCORE_BEAM,
    SLOT,
)
from espnet_plugin.search.beam.compiled.maths import NEG_INF
from espnet_plugin.search.beam.compiled.table import extend_key, find


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def row_of(code: int, settings: Any, table: Any, row_notes: Any) -> int:
    """Where the outputs for a state are; -1 if they have to be asked for."""
    row = code if settings[OLDEST] == LINKED else find(table[0], table[1], code)
    return -1 if row >= 0 and row_notes[row, CLOCK] == NOT_EVALUATED else row


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def code_after(code: int, label: int, vocab: int, settings: Any, table: Any) -> int:
    """The state after one more label; -1 if it has to be asked for."""
    if settings[OLDEST] == LINKED:
        linked: int = find(table[0], table[1], code * vocab + label)
        return linked
    after: int = (code % settings[OLDEST]) * vocab + label
    return after


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def insert(
    scores: Any, columns: Any, count: int, most: int, score: float, slot: int, label: int
) -> int:
    """Keeps the ``most`` best, best first; an equal one that came earlier stays ahead.

    Returns:
        How many there are now.
    """
    if count == most:
        if not score > scores[count - 1]:
            return count
        count -= 1
    elif not score > NEG_INF:  # NaN neither
        return count
    place = count
    while place > 0 and scores[place - 1] < score:
        scores[place] = scores[place - 1]
        for c in range(columns.shape[1]):
            columns[place, c] = columns[place - 1, c]
        place -= 1
    scores[place] = score
    columns[place, SLOT], columns[place, LABEL] = slot, label
    return count + 1


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def label_score(base: float, label: int, logits: Any, bonus: Any) -> float:
    """Total after a label; ``bonus`` [V] or [0]."""
    total = base + float(logits[label])
    return total + float(bonus[label]) if bonus.shape[0] else total


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def choose(
    slot: int, base: float, blank: int, stay: float, taken: Any, logits: Any, bonus: Any,
    scores: Any, columns: Any, count: int, most: int, floor: float,
) -> int:  # fmt: skip
    """One hypothesis' labels among the candidates, where they exceed ``floor``.

    Args:
        base: its total minus the normaliser of ``logits`` [V].
        stay: total of going on without a label; it takes blank's place.
        taken: [V'] labels that are no candidates (they were added to another hypothesis).
        count, most: candidates there are, and may be.

    Returns:
        How many there are now.
    """
    limit = scores[count - 1] if count == most else floor
    for v in range(logits.shape[0]):
        total = label_score(base, v, logits, bonus) if v != blank else stay
        if total > limit:
            free = True
            for other in taken:
                free = free and other != v
            if free or v == blank:
                count = insert(scores, columns, count, most, total, slot, v)
                if count == most:
                    limit = max(limit, scores[count - 1])
    return count


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def within_beam(scores: Any, count: int, limits: Any) -> int:
    """How many of the sorted scores are not further below the best than the score beam."""
    while count > 1 and scores[count - 1] < scores[0] - limits[SCORE_BEAM]:
        count -= 1
    return count


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def merge(scores: Any, columns: Any, count: int, settings: Any, limits: Any) -> int:
    """Candidates with equal states become one, then the beam's best are kept, sorted.

    See :func:`espnet_plugin.search.beam.recombine.recombine`.
    """
    kept = 0
    for i in range(count):
        place = 0
        while place < kept and columns[place, NEXT_CODE] != columns[i, NEXT_CODE]:
            place += 1
        if place == kept:
            scores[kept] = scores[i]
            columns[kept, SLOT], columns[kept, LABEL] = columns[i, SLOT], columns[i, LABEL]
            columns[kept, NEXT_CODE] = columns[i, NEXT_CODE]
            kept += 1
        elif not settings[BEST_PATH]:
            # Scores come sorted, so the one that stands there is the best of its group.
            scores[place] += math.log1p(math.exp(scores[i] - scores[place]))
    for i in range(1, kept):  # insertion sort, stable
        score, slot, label = scores[i], columns[i, SLOT], columns[i, LABEL]
        code, place = columns[i, NEXT_CODE], i
        while place > 0 and scores[place - 1] < score:
            scores[place] = scores[place - 1]
            for c in range(columns.shape[1]):
                columns[place, c] = columns[place - 1, c]
            place -= 1
        scores[place], columns[place, SLOT], columns[place, LABEL] = score, slot, label
        columns[place, NEXT_CODE] = code
    within: int = within_beam(scores, min(kept, settings[BEAM]), limits)
    return within


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def add_node(history: Any, control: Any, parent: int, label: int, frame: int) -> int:
    """A new leaf of the history tree."""
    node = control[NODES]
    history[node, PARENT], history[node, NODE_LABEL] = parent, label
    history[node, NODE_FRAME] = frame
    control[NODES] += 1
    return int(node)


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def extend(
    slot: int, label: int, code: int, frame: int, row: int, parts: Any,
    whole: Any, score: Any, history: Any, control: Any, new_whole: Any, new_score: Any,
) -> None:  # fmt: skip
    """The hypothesis in ``slot`` with one more label -> new_whole [5], new_score [1 + P]."""
    old = whole[slot]
    new_whole[NODE] = add_node(history, control, old[NODE], label, frame)
    new_whole[PARENT_KEY], new_whole[LAST] = old[KEY], label
    new_whole[KEY], new_whole[CODE] = extend_key(old[KEY], label), code
    for p in range(parts.shape[1]):
        new_score[PARTS + p] = score[slot, PARTS + p] + float(parts[row, p, label])
