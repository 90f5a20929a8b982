"""Where the compiled search and its driver keep what: columns of arrays, numbers of events.

Arrays of numbers are cheap to hand over at each call, objects with attributes are not.

Shapes: W slots of hypotheses, C candidates, P scorers (internal LM included), N rows, i.e. states
of the models.
"""

from __future__ import annotations

# Why the compiled loops came back. The models are asked in Python; then they go on.
DONE, EVALUATE, LINK = 0, 1, 2

# control [..] int64: where the search is, changed by the loops. The last four are `logits.py`'s:
# places in use, the clock of the utterance's first frame and of when the places were emptied, and
# how often states are new.
FRAME, DEPTH, PHASE, GONE, LEVEL, NODES, CANDIDATES, ASKED, LEFT = range(9)
USED, TIME, EMPTIED, FRESH = range(9, 13)
CONTROL_SIZE = 13
SCORING, EXTENDING = 0, 1  # phases

# settings [..] int64; the last two: frames that are evaluated at once at most, and how many states
# a frame may need.
TOPOLOGY, BEST_PATH, MERGES_LATE, BEAM, MAX_SYMBOLS, BLANK, ACTIVATION, OLDEST = range(8)
AHEAD, FRAME_ROWS = 8, 9
SETTINGS_SIZE = 10
MONOTONIC, RNNT = 0, 1
LINKED = 0  # value of OLDEST: states are numbers that Python gives, not codes of a context

# limits [2] float64
SCORE_BEAM, BLANK_PENALTY = 0, 1

# A hypothesis: beam_whole [W, 5] int64 ...
NODE, KEY, PARENT_KEY, LAST, CODE = range(5)
WHOLE_SIZE = 5
# ... and beam_score [W, 1 + P] float64: its total, then the unscaled part of each scorer.
SCORE, PARTS = 0, 1

# A candidate: candidates [C, 3] int64, candidate_scores [C] float64.
SLOT, LABEL, NEXT_CODE = range(3)
CANDIDATE_SIZE = 3

# history [.., 3] int64; node 0 is the empty history.
PARENT, NODE_LABEL, NODE_FRAME = range(3)

# row_notes [N, NOTES_SIZE] int64: the clock when a row was last used; the clocks from and up to
# which its logits are in the workspace; and from PLACE on, where, by clock modulo MOST_AHEAD.
CLOCK, SINCE, UNTIL, PLACE = range(4)
MOST_AHEAD = 8  # frames
NOTES_SIZE = PLACE + MOST_AHEAD
NOT_EVALUATED = -2  # instead of a clock
