"""An alignment as files hold it: entries, one or more for each encoder frame.

Blank (0) or the label a > 0 of a frame; where the rnnt topology puts several labels on a frame, all
but its last are entries -a before it. `espnet_plugin.nn.alignment` has the same on tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def entry_labels(entries: Iterable[int], blank: int = 0) -> list[int]:
    """The labels, in order."""
    return [abs(entry) for entry in entries if entry != blank]


def frame_count(entries: Iterable[int]) -> int:
    """How many frames the alignment covers."""
    return sum(entry >= 0 for entry in entries)


def label_frames(entries: Iterable[int], blank: int = 0) -> list[int]:
    """Frame of every label, in order."""
    frames, frame = [], 0
    for entry in entries:
        if entry != blank:
            frames.append(frame)
        frame += entry >= 0
    return frames


def path_entries(path: Sequence[int]) -> list[int]:
    """Entries of an rnnt path, one symbol per step: a blank (0) ends its frame.

    Raises:
        ValueError: labels after the last frame's blank.
    """
    entries: list[int] = []
    waiting: int | None = None  # the frame's last label so far
    for symbol in path:
        if symbol == 0:
            entries.append(waiting or 0)
            waiting = None
        else:
            if waiting is not None:
                entries.append(-waiting)
            waiting = symbol
    if waiting is not None:
        raise ValueError(f"the path ends in label {waiting}, not in its frame's blank")
    return entries
