"""Words with times, and how those of overlapping pieces become one sequence.

Times are seconds; within a piece from its beginning, after joining from that of the track.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from espnet_plugin.transcription.spans import Span

#: The same word, heard in two pieces, may be this many seconds apart.
_SAME = 0.5
#: So many seconds nearer to the middle of the overlap weigh as much as one second of agreement: of
#: a word that is said twice, the first must not be taken for the second.
_AGREEMENT = 4.0


@dataclass(frozen=True)
class Word:
    """A recognised word; `confidence` is a probability, or None where the search gives none."""

    text: str
    start: float
    end: float
    confidence: float | None = None

    @property
    def middle(self) -> float:
        """The time half-way through it."""
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class Segment:
    """What was said in one piece of a track."""

    span: Span
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words in a line."""
        return " ".join(word.text for word in self.words)

    @property
    def confidence(self) -> float | None:
        """The mean of the words' confidences, or None."""
        known = [word.confidence for word in self.words if word.confidence is not None]
        return sum(known) / len(known) if known else None


def join_pieces(pieces: Sequence[tuple[Span, Sequence[Word]]]) -> list[Segment]:
    """One segment per piece, every word in one of them only.

    Where a piece overlaps the one before, both heard the same words. They are joined at a word
    that both heard at the same time, near the middle of the overlap; without one, at the middle.

    Args:
        pieces: spans in the order of time, with words whose times begin at the span's start.
    """
    segments: list[Segment] = []
    for span, heard in pieces:
        words = [
            replace(word, start=word.start + span.start, end=word.end + span.start)
            for word in heard
        ]
        if segments and segments[-1].span.end > span.start:
            before = segments[-1]
            left, words = _join(list(before.words), words, span.start, before.span.end)
            segments[-1] = replace(before, words=tuple(left))
        segments.append(Segment(span, tuple(words)))
    return segments


def _join(
    left: list[Word], right: list[Word], start: float, end: float
) -> tuple[list[Word], list[Word]]:
    middle = (start + end) / 2
    same = [
        (abs((a.middle + b.middle) / 2 - middle) + _AGREEMENT * abs(a.middle - b.middle), i, j)
        for i, a in enumerate(left)
        if a.end > start
        for j, b in enumerate(right)
        if b.start < end and a.text == b.text and abs(a.middle - b.middle) <= _SAME
    ]
    if same:
        _, i, j = min(same)
        return left[: i + 1], right[j + 1 :]
    return (
        [word for word in left if word.middle < middle],
        [word for word in right if word.middle >= middle],
    )
