"""Words into captions that can be read: two lines, a few seconds, breaks at pauses."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from espnet_plugin.transcription.words import Word

_LINE = 42  # characters
_LINES = 2
_LONGEST = 7.0  # seconds
_SHORTEST = 1.0
_PAUSE = 0.8


@dataclass(frozen=True)
class Caption:
    """Lines shown together."""

    start: float
    end: float
    lines: tuple[str, ...]


def captions(words: Sequence[Word]) -> list[Caption]:
    """Captions of a track, in order and without overlap.

    A caption too short to be read stays on until the next one begins, at most.
    """
    made = [
        (group, tuple(textwrap.wrap(" ".join(word.text for word in group), _LINE)))
        for group in _groups(words)
    ]
    shown = []
    for n, (group, lines) in enumerate(made):
        start = group[0].start
        end = max(group[-1].end, start + _SHORTEST)
        if n + 1 < len(made):
            end = max(min(end, made[n + 1][0][0].start), start)
        shown.append(Caption(start, end, lines))
    return shown


def _groups(words: Sequence[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group:
            text = " ".join(other.text for other in [*group, word])
            if (
                len(textwrap.wrap(text, _LINE)) > _LINES
                or word.end - group[0].start > _LONGEST
                or word.start - group[-1].end > _PAUSE
            ):
                yield group
                group = []
        group.append(word)
    if group:
        yield group
