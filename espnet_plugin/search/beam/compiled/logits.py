"""Logits of the compiled search: each state on each frame once, and frames ahead where that pays.

The output layer of a large vocabulary costs the reading of its weights from memory more than the
arithmetic: 20 MB for 5,000 labels. Hypotheses that emit nothing keep their state from frame to
frame. So when weights have to be read for some state, all states of the beam are evaluated for the
next frames too, as many as pass, on average, until a state appears that was not there before. What
is computed is the same; some of it is never used.

Arrays and their columns: `layout.py`. Shapes: W slots, N rows of models' states, T frames, J joint
size, V vocabulary with blank, R places of the workspace.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from espnet_plugin.search.beam.compiled.layout import (
    ACTIVATION,
    AHEAD,
    CLOCK,
    EMPTIED,
    FRAME,
    FRAME_ROWS,
    FRESH,
    MOST_AHEAD,
    PLACE,
    SINCE,
    TIME,
    UNTIL,
    USED,
)
from espnet_plugin.search.beam.compiled.maths import hidden_layer, log_normaliser, output_layer

# control[FRESH] is the share of evaluations with a new state, in 1024ths, averaged over about 8.
_ALWAYS, _SHIFT = 1024, 3


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def evaluate_frame(
    rows: Any, places: Any, encoder: Any, control: Any, settings: Any, weight: Any, bias: Any,
    projected: Any, row_notes: Any, hidden: Any, logits: Any, norms: Any,
) -> None:  # fmt: skip
    """Sees to it that the logits of rows [W'] on the current frame are there, and says where.

    Args:
        rows: of the models' states.
        places: [W'] where their logits [R, V] and their normalisers [R] are; written.
        encoder: [T, J].
        projected: [N, J].
        row_notes: [N, NOTES_SIZE].
    """
    clock = control[TIME] + control[FRAME]
    missing, fresh = False, 0
    for i in range(rows.shape[0]):
        note = row_notes[rows[i]]
        if note[CLOCK] < clock - 1:
            fresh = _ALWAYS
        missing = missing or not _is_there(note, clock, control)
    control[FRESH] += (fresh - control[FRESH]) >> _SHIFT
    if missing:
        begin = control[USED]
        ahead = min(max(_ALWAYS // max(control[FRESH], 1), 1), settings[AHEAD])
        stop = min(clock + ahead, control[TIME] + encoder.shape[0])
        for i in range(rows.shape[0]):
            row = rows[i]
            _hidden_rows(
                row_notes[row], projected[row], clock, stop, encoder, control, settings, hidden
            )
        end = control[USED]
        output_layer(weight, bias, hidden[begin:end], logits[begin:end])
        for m in range(begin, end):
            norms[m] = log_normaliser(logits[m])
    for i in range(rows.shape[0]):
        note = row_notes[rows[i]]
        note[CLOCK] = clock
        places[i] = note[PLACE + clock % MOST_AHEAD]


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _is_there(note: Any, clock: int, control: Any) -> bool:
    there: bool = control[EMPTIED] <= note[SINCE] <= clock < note[UNTIL]
    return there


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _hidden_rows(
    note: Any, predicted: Any, clock: int, stop: int, encoder: Any, control: Any, settings: Any,
    hidden: Any,
) -> None:  # fmt: skip
    """Hidden layers of a state, predicted [J], for the frames up to ``stop`` that lack them."""
    if not _is_there(note, clock, control):
        note[SINCE], note[UNTIL] = clock, clock
    room = hidden.shape[0] - settings[FRAME_ROWS]  # this frame may still need so many
    while note[UNTIL] < stop and (note[UNTIL] == clock or control[USED] < room):
        time, place = note[UNTIL], control[USED]
        frame = encoder[time - control[TIME]]
        hidden_layer(frame, predicted, settings[ACTIVATION], hidden[place])
        note[PLACE + time % MOST_AHEAD] = place
        note[UNTIL] += 1
        control[USED] += 1


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def next_frame(control: Any, settings: Any, places: int) -> None:
    """On to the next frame; the workspace is emptied when it might not suffice for it."""
    control[FRAME] += 1
    if control[USED] + 2 * settings[FRAME_ROWS] > places:
        control[USED], control[EMPTIED] = 0, control[TIME] + control[FRAME]
