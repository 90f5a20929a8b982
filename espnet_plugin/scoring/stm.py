"""NIST's segment time marked transcripts (STM), which tell where the references are.

A line is ``en_4156 A en_4156_A 357.64 359.64 <O,en,F,en-F> HE IS A POLICE OFFICER``: recording,
channel, speaker, begin and end in seconds, labels, text. Lines that begin with ``;;`` are comments,
and declare the labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from espnet_plugin.corpora.text_lines import SPACES, fields, single_spaced

IGNORED = "IGNORE_TIME_SEGMENT_"

_CHANNELS = {"1": "A", "2": "B", "A": "A", "B": "B", "a": "A", "b": "B"}
_COLUMN = re.compile(f"[{SPACES}]+")
_LABELS = re.compile(r"<[^<>\s]*>")
_ASIDE = re.compile(r"<[BE]_ASIDE>", re.IGNORECASE)


@dataclass(frozen=True)
class StmSegment:
    """One line.

    Attributes:
        recording: name of the audio file without suffix.
        channel: ``A`` or ``B``; files that count (``1``, ``2``) mean these.
        begin, end: in seconds.
        labels: such as ``<O,en,F,en-F>``, or "".
        text: the reference, with NIST's marks.
    """

    recording: str
    channel: str
    speaker: str
    begin: float
    end: float
    labels: str
    text: str

    @property
    def side(self) -> str:
        """``en_4156-A``."""
        return f"{self.recording}-{self.channel}"

    @property
    def name(self) -> str:
        """``en_4156-A_035764-035964``: the side and its times in centiseconds, rounded."""
        begin, end = (int(100 * seconds + 0.5) for seconds in (self.begin, self.end))
        return f"{self.side}_{begin:06d}-{end:06d}"

    @property
    def ignored(self) -> bool:
        """Whether nothing said here is scored."""
        return self.text.upper().startswith(IGNORED)

    def line(self) -> str:
        """The segment as a line of a file."""
        times = f"{self.begin:.3f} {self.end:.3f}"
        fields = (self.recording, self.channel, self.speaker, times, self.labels, self.text)
        return " ".join(field for field in fields if field)


@dataclass(frozen=True)
class Stm:
    """A file: its comment lines, which declare the labels, and its segments."""

    comments: tuple[str, ...]
    segments: tuple[StmSegment, ...]

    def text(self) -> str:
        """The whole file."""
        return "".join(f"{line}\n" for line in (*self.comments, *(s.line() for s in self.segments)))

    def part(self, recordings: Iterable[str]) -> Stm:
        """Only the segments of these recordings."""
        chosen = set(recordings)
        return Stm(self.comments, tuple(s for s in self.segments if s.recording in chosen))


def parse_stm(text: str, source: str) -> Stm:
    """Parse a file.

    Three things that NIST's own programs trip over are mended, as every recipe does: double
    parentheses become single ones, marks of asides and gaps between segments are left out.

    Raises:
        ValueError: a line that is no segment; `source` names the file in the message.
    """
    comments, segments = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(";;"):
            comments.append(line.rstrip())
        elif fields(line) and "inter_segment_gap" not in line:
            segments.append(_parse_line(line, f"{source}:{number}"))
    return Stm(tuple(comments), tuple(segments))


def _parse_line(line: str, where: str) -> StmSegment:
    columns = _COLUMN.split(line.strip(SPACES), 5)
    try:
        begin, end = float(columns[3]), float(columns[4])
        channel = _CHANNELS[columns[1]]
    except (IndexError, ValueError, KeyError):
        raise ValueError(
            f"{where}: not 'recording channel speaker begin end <labels> text' with channel A, B, "
            f"1 or 2: {line.strip()[:80]!r}"
        ) from None
    if not 0 <= begin < end:
        raise ValueError(f"{where}: impossible times {begin} to {end}")
    rest = columns[5] if len(columns) > 5 else ""
    labels = _LABELS.match(rest)
    text = rest[labels.end() :] if labels else rest
    text = single_spaced(_ASIDE.sub(" ", text).replace("((", "(").replace("))", ")"))
    return StmSegment(
        columns[0], channel, columns[2], begin, end, labels[0] if labels else "", text
    )


def plain_reference(text: str) -> str:
    """Return a reference as lower-case words for a plain word error rate.

    The first of several alternatives, ``{ a / b }``, is taken, optional words in parentheses
    count, and hesitations (``%HESITATION``) are left out.

    >>> plain_reference("(%HESITATION) { GOING TO / GONNA } (TH-) THE")
    'going to th- the'
    """
    text = re.sub(r"\{([^{}/]*)(?:/[^{}]*)?\}", r"\1", text.lower())
    text = re.sub(r"<[^<>]*>", " ", text)
    words = fields(text.replace("(", " ").replace(")", " "))
    return " ".join(word for word in words if word[0] not in "%@")
