"""The loops over frames and labels of the compiled search, both topologies.

Means the same as `beam.py`, for one utterance. When the loops need a state of the models that was
never seen before, they come back with what they ask for, and go on from there when they are called
again. Arrays and their columns: `layout.py`.

Shapes: T frames, W slots, C candidates, J joint size, V vocabulary with blank, P scorers, N rows of
models' states.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from espnet_plugin.search.beam.compiled import layout as at
from espnet_plugin.search.beam.compiled.layout import MONOTONIC
from espnet_plugin.search.beam.compiled.logits import evaluate_frame, next_frame
from espnet_plugin.search.beam.compiled.maths import NEG_INF, combine
from espnet_plugin.search.beam.compiled.steps import (
    add_node,
    choose,
    code_after,
    extend,
    insert,
    label_score,
    merge,
    row_of,
    within_beam,
)

# Columns of scratch [W, 3] float64 and of meets [W, 2] int64.
BASE, STAY, JOINED = range(3)
PARENT_SLOT, LATER = range(2)


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def run(
    control: Any, settings: Any, limits: Any, asked: Any, encoder: Any, weight: Any, bias: Any,
    states: Any, beam: Any, candidates: Any, left: Any, history: Any, work: Any,
) -> int:  # fmt: skip
    """Goes on with an utterance, encoder [T, J].

    Args:
        control, settings, limits: numbers.
        asked: [C, 2] codes, or codes and labels, when an event is returned.
        weight, bias: output layer, [V, J] and [V].
        states: projected [N, J], bonus [N, V], parts [N, P, V], row_notes, table keys and values.
        beam: whole [W, 5], score [W, 1 + P], and the same for the beam to come.
        candidates, left: columns and scores of those that take a label, of those that left.
        history: [.., 3].
        work: rows [W], hidden, logits, norms, scratch [W, 3], meets [W, 2], taken [W], places [W].

    Returns:
        DONE; EVALUATE: outputs for the states asked for; LINK: states after labels.
    """
    while control[at.FRAME] < encoder.shape[0]:
        if control[at.PHASE] == at.SCORING:
            if not _ready(control, settings, asked, states, beam, work):
                return at.EVALUATE
            _evaluate(control, settings, limits, encoder, weight, bias, states, beam, work)
            if settings[at.TOPOLOGY] == MONOTONIC:
                _monotonic_candidates(control, settings, states, beam, candidates, work)
            else:
                _rnnt_candidates(control, settings, limits, states, beam, candidates, left, work)
            control[at.PHASE] = at.EXTENDING
        if not _linked(control, settings, asked, weight.shape[0], states, beam, candidates):
            return at.LINK
        count = control[at.CANDIDATES]
        if settings[at.MERGES_LATE]:
            count = merge(candidates[1], candidates[0], count, settings, limits)
        elif settings[at.TOPOLOGY] == MONOTONIC:
            count = within_beam(candidates[1], count, limits)
        if settings[at.TOPOLOGY] == MONOTONIC:
            _monotonic_next(count, control, settings, states, beam, candidates, history, work)
        else:
            _rnnt_next(
                count, control, settings, limits, states, beam, candidates, left, history, work
            )
        control[at.PHASE] = at.SCORING
    return at.DONE


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _ready(
    control: Any, settings: Any, asked: Any, states: Any, beam: Any, work: Any
) -> bool:  # fmt: skip
    """Whether the models' outputs for all hypotheses of the level are there."""
    whole, rows, missing = beam[0], work[0], 0
    for k in range(control[at.GONE], control[at.GONE] + control[at.LEVEL]):
        rows[k] = row_of(whole[k, at.CODE], settings, (states[4], states[5]), states[3])
        if rows[k] < 0:
            asked[missing, 0] = whole[k, at.CODE]
            missing += 1
    control[at.ASKED] = missing
    return missing == 0


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _linked(
    control: Any, settings: Any, asked: Any, vocab: int, states: Any, beam: Any, candidates: Any
) -> bool:
    """Whether the states after all candidates' labels are known; notes them."""
    columns, whole, missing = candidates[0], beam[0], 0
    for c in range(control[at.CANDIDATES]):
        code, label = whole[columns[c, at.SLOT], at.CODE], columns[c, at.LABEL]
        if label != settings[at.BLANK]:
            after = code_after(code, label, vocab, settings, (states[4], states[5]))
            if after < 0:
                asked[missing, 0], asked[missing, 1] = code, label
                missing += 1
            code = after
        columns[c, at.NEXT_CODE] = code
    control[at.ASKED] = missing
    return missing == 0


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _evaluate(
    control: Any, settings: Any, limits: Any, encoder: Any, weight: Any, bias: Any, states: Any,
    beam: Any, work: Any,
) -> None:  # fmt: skip
    """Logits of the level's hypotheses on their frame, and their totals after a blank."""
    first = control[at.GONE]
    end = first + control[at.LEVEL]
    rows, hidden, logits, norms, scratch = work[0], work[1], work[2], work[3], work[4]
    places = work[7]
    evaluate_frame(
        rows[first:end], places[first:end], encoder, control, settings, weight, bias, states[0],
        states[3], hidden, logits, norms,
    )  # fmt: skip
    for k in range(first, end):
        scratch[k, BASE] = beam[1][k, at.SCORE] - norms[places[k]]
        blank = float(logits[places[k], settings[at.BLANK]])
        scratch[k, STAY] = scratch[k, BASE] + blank - limits[at.BLANK_PENALTY]


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _monotonic_candidates(
    control: Any, settings: Any, states: Any, beam: Any, candidates: Any, work: Any
) -> None:
    """Everybody's labels, and going on without one.

    a·v in the beam, reached by a blank, meets a's extension by v: the parent's slot, if any.
    """
    whole, rows, logits, scratch, meets = beam[0], work[0], work[2], work[4], work[5]
    places = work[7]
    level, count, most = control[at.LEVEL], 0, candidates[1].shape[0]
    for i in range(level):
        meets[i, PARENT_SLOT], meets[i, LATER] = -1, 0
        scratch[i, JOINED] = scratch[i, STAY]
        for j in range(0 if settings[at.MERGES_LATE] else level):
            if whole[i, at.PARENT_KEY] == whole[j, at.KEY]:
                child = label_score(
                    scratch[j, BASE], whole[i, at.LAST], logits[places[j]], states[1][rows[j]]
                )
                scratch[i, JOINED] = combine(scratch[i, STAY], child, settings[at.BEST_PATH] != 0)
                # the label was more likely emitted in this frame
                meets[i, PARENT_SLOT], meets[i, LATER] = j, child > scratch[i, STAY]
                break
    taken = work[6]
    for k in range(level):
        many = 0
        for i in range(level):
            if meets[i, PARENT_SLOT] == k:
                taken[many] = whole[i, at.LAST]
                many += 1
        count = choose(
            k, scratch[k, BASE], settings[at.BLANK], scratch[k, JOINED], taken[:many],
            logits[places[k]], states[1][rows[k]],
            candidates[1], candidates[0], count, most, NEG_INF,
        )  # fmt: skip
    control[at.CANDIDATES] = count


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _monotonic_next(
    count: int, control: Any, settings: Any, states: Any, beam: Any, candidates: Any, history: Any,
    work: Any,
) -> None:  # fmt: skip
    """The candidates become the beam of the next frame."""
    meets, columns = work[5], candidates[0]
    for c in range(count):
        slot = columns[c, at.SLOT]
        _take(c, c, control, settings, states, beam, candidates, history, work)
        if columns[c, at.LABEL] == settings[at.BLANK] and meets[slot, LATER]:
            parent = beam[0][meets[slot, PARENT_SLOT], at.NODE]
            beam[2][c, at.NODE] = add_node(
                history, control, parent, beam[0][slot, at.LAST], control[at.FRAME]
            )
    _turn(beam, count)
    control[at.LEVEL] = count
    next_frame(control, settings, work[1].shape[0])


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _take(
    c: int, place: int, control: Any, settings: Any, states: Any, beam: Any, candidates: Any,
    history: Any, work: Any,
) -> None:  # fmt: skip
    """Candidate ``c`` into slot ``place`` of the beam to come."""
    columns = candidates[0]
    slot, label = columns[c, at.SLOT], columns[c, at.LABEL]
    if label == settings[at.BLANK]:
        beam[2][place], beam[3][place] = beam[0][slot], beam[1][slot]
    else:
        extend(
            slot, label, columns[c, at.NEXT_CODE], control[at.FRAME], work[0][slot], states[2],
            beam[0], beam[1], history, control, beam[2][place], beam[3][place],
        )  # fmt: skip
    beam[3][place, at.SCORE] = candidates[1][c]


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _turn(beam: Any, count: int) -> None:
    """The beam to come is the beam."""
    beam[0][:count] = beam[2][:count]
    beam[1][:count] = beam[3][:count]


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _rnnt_candidates(
    control: Any, settings: Any, limits: Any, states: Any, beam: Any, candidates: Any, left: Any,
    work: Any,
) -> None:  # fmt: skip
    """What has left the frame, best first, and the labels that can still get into the beam."""
    rows, logits, scratch, places = work[0], work[2], work[4], work[7]
    first, most = control[at.GONE], settings[at.BEAM]
    end = first + control[at.LEVEL]
    control[at.LEFT] = _left(control, settings, beam, left, scratch)
    # What is worse than the K-th best stays worse.
    floor = left[1][most - 1] if control[at.LEFT] >= most else NEG_INF
    if control[at.LEFT]:
        floor = max(floor, left[1][0] - limits[at.SCORE_BEAM])
    count, deepest = 0, control[at.DEPTH] == settings[at.MAX_SYMBOLS]
    for k in range(first, first if deepest else end):
        count = choose(
            k, scratch[k, BASE], settings[at.BLANK], NEG_INF, work[6][:0],
            logits[places[k]], states[1][rows[k]],
            candidates[1], candidates[0], count, candidates[1].shape[0], floor,
        )  # fmt: skip
    control[at.CANDIDATES] = count


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _left(control: Any, settings: Any, beam: Any, left: Any, scratch: Any) -> int:
    """Those that left before and the level's, equal ones added up (`recombine_two`)."""
    whole, blank = beam[0], settings[at.BLANK]
    identity = at.CODE if settings[at.MERGES_LATE] else at.KEY
    first, most = control[at.GONE], left[1].shape[0]
    end = first + control[at.LEVEL]
    for i in range(first):
        scratch[i, JOINED] = beam[1][i, at.SCORE]
    for k in range(first, end):
        scratch[k, JOINED] = stay = scratch[k, STAY]
        for i in range(first):
            if whole[i, identity] == whole[k, identity]:
                before = beam[1][i, at.SCORE]
                total = combine(before, stay, settings[at.BEST_PATH] != 0)
                scratch[i, JOINED] = total if before >= stay else NEG_INF
                scratch[k, JOINED] = NEG_INF if before >= stay else total
                break
    count = 0
    for k in range(end):
        count = insert(left[1], left[0], count, most, scratch[k, JOINED], k, blank)
    return count


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _rnnt_next(
    count: int, control: Any, settings: Any, limits: Any, states: Any, beam: Any, candidates: Any,
    left: Any, history: Any, work: Any,
) -> None:  # fmt: skip
    """One label deeper, or, if none can get into the beam any more, on to the next frame."""
    waiting = control[at.LEFT]
    if count == 0:
        waiting = within_beam(left[1], min(waiting, settings[at.BEAM]), limits)
    for c in range(waiting):
        _take(c, c, control, settings, states, beam, left, history, work)
    for c in range(count):
        _take(c, waiting + c, control, settings, states, beam, candidates, history, work)
    _turn(beam, waiting + count)
    if count:
        control[at.GONE], control[at.LEVEL] = waiting, count
        control[at.DEPTH] += 1
    else:
        control[at.GONE], control[at.LEVEL], control[at.DEPTH] = 0, waiting, 0
        next_frame(control, settings, work[1].shape[0])
