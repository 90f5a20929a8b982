"""Segments of the Mississippi State transcripts: ``swb_ms98_transcriptions/20/2001/*-trans.text``.

A line is ``sw2001A-ms98-a-0002 0.977625 11.561375 hi um yeah``: conversation and side, times in
seconds, words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ms98_words import transcript

_NAME = re.compile(r"sw(?P<conversation>\d{4})(?P<side>[AB])-ms98-\w-\w+")


@dataclass(frozen=True)
class Utterance:
    """A segment with words.

    Attributes:
        recording: the conversation's audio file without suffix, ``sw02001``.
        side: ``A`` (first channel) or ``B``.
        begin, end: in seconds.
    """

    recording: str
    side: str
    begin: float
    end: float
    words: tuple[str, ...]

    @property
    def speaker(self) -> str:
        """Conversation and side; a side has one speaker, most of the time."""
        return f"{self.recording}-{self.side}"

    @property
    def name(self) -> str:
        """``sw02001-A_000098-001156``: the side and its times in centiseconds, rounded."""
        begin, end = self._centiseconds
        return f"{self.speaker}_{begin:06d}-{end:06d}"

    @property
    def segment(self) -> str:
        """Its line in ``segments``: ``sw02001-A 0.98 11.56``, the times of its name."""
        begin, end = self._centiseconds
        return f"{self.speaker} {begin / 100:.2f} {end / 100:.2f}"

    @property
    def _centiseconds(self) -> tuple[int, int]:
        return int(100 * self.begin + 0.5), int(100 * self.end + 0.5)


def read_transcripts(
    root: Path, spelled: Mapping[str, str], problems: list[str]
) -> tuple[dict[str, Utterance], set[str]]:
    """Read all segments that hold a word or a noise.

    Returns:
        {utterance: what it is}, and the names of all conversations that have transcripts.
    """
    files = sorted(root.glob("*/*/*-trans.text"))
    if not files:
        problems.append(
            f"{root}: no transcript */*/sw*-trans.text; give the folder "
            "swb_ms98_transcriptions (it holds 20/, 21/, ... and sw-ms98-dict.text)"
        )
    utterances: dict[str, Utterance] = {}
    sides: dict[str, set[str]] = {}
    for path in files:
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            try:
                utterance = parse_line(line, spelled)
            except ValueError as error:
                problems.append(f"{path}:{number}: {error}")
                continue
            sides.setdefault(utterance.recording, set()).add(utterance.side)
            if not utterance.words:  # silence only
                continue
            if utterance.name in utterances:
                problems.append(f"{path}:{number}: a second segment {utterance.name}; remove one")
            utterances[utterance.name] = utterance
    for recording, found in sorted(sides.items()):
        if len(found) < 2:
            other = "B" if "A" in found else "A"
            problems.append(
                f"{root}: no transcript of side {other} of {recording}; unpack the archive again"
            )
    return utterances, set(sides)


def parse_line(line: str, spelled: Mapping[str, str]) -> Utterance:
    """Parse a line of a transcript.

    Raises:
        ValueError: not a name, two times and a text.
    """
    columns = line.split(None, 3)
    match = _NAME.fullmatch(columns[0])
    try:
        begin, end = float(columns[1]), float(columns[2])
    except (IndexError, ValueError):
        match = None
    if match is None:
        raise ValueError(f"not 'sw2001A-ms98-a-0001 begin end words': {line.strip()[:80]!r}")
    if not 0 <= begin <= end:
        raise ValueError(f"{columns[0]}: impossible times {begin} to {end}")
    spoken = columns[3] if len(columns) > 3 and begin < end else ""
    words = transcript(spoken, spelled)
    return Utterance(f"sw0{match['conversation']}", match["side"], begin, end, tuple(words))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
