"""Where a recording is cut: pieces that a model trained on utterances can take.

Times are seconds from the beginning of the track.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Two regions nearer than this were cut inside of speech, not at a pause.
_TOUCHING = 0.02


@dataclass(frozen=True)
class Span:
    """A stretch of time."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


def windows(seconds: float, length: float, overlap: float) -> list[Span]:
    """Windows of equal length over the whole track, each overlapping the next.

    Raises:
        ValueError: a length that is not above twice the overlap, or an overlap below zero.
    """
    if overlap < 0 or length <= 2 * overlap:
        raise ValueError(
            f"windows of {length} s that overlap by {overlap} s: the length must be more than "
            "twice the overlap, and the overlap not below 0"
        )
    spans = [Span(0.0, min(length, seconds))]
    while spans[-1].end < seconds:
        start = spans[-1].end - overlap
        spans.append(Span(start, min(start + length, seconds)))
    return spans


def join_regions(regions: Sequence[Span], length: float, gap: float) -> list[Span]:
    """Join neighbours over pauses of at most `gap`, to at most `length` seconds.

    Longer pieces give the model context; a pause within an utterance is nothing new to it.
    """
    joined: list[Span] = []
    for region in regions:
        last = joined[-1] if joined else None
        if (
            last is not None
            and _TOUCHING < region.start - last.end <= gap
            and region.end - last.start <= length
        ):
            joined[-1] = Span(last.start, region.end)
        else:
            joined.append(region)
    return joined


def pad_spans(spans: Sequence[Span], seconds: float, pad: float, overlap: float) -> list[Span]:
    """Widen every span by `pad`, but not beyond the middle of the pause before the next one.

    Where speech went on and was cut for its length, both sides are widened by half of `overlap`,
    so that the word at the cut is whole in one of them (`transcription.words.join_pieces`).
    """
    padded = []
    for n, span in enumerate(spans):
        before = span.start - (spans[n - 1].end if n else -span.start)
        after = (spans[n + 1].start if n + 1 < len(spans) else 2 * seconds - span.end) - span.end
        left = overlap / 2 if before <= _TOUCHING and n else min(pad, before / 2)
        right = overlap / 2 if after <= _TOUCHING else min(pad, after / 2)
        padded.append(Span(max(0.0, span.start - left), min(seconds, span.end + right)))
    return padded
