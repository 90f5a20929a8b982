"""Transcripts as text, JSON, SRT, WebVTT and NIST CTM."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from espnet_plugin.search.word_output import TimedWord, ctm_lines
from espnet_plugin.transcription.captions import Caption, captions
from espnet_plugin.transcription.words import Segment, Word


@dataclass(frozen=True)
class TrackTranscript:
    """What was said in one track; `channel` is None for the mean of all channels."""

    channel: int | None
    seconds: float
    segments: tuple[Segment, ...]

    @property
    def words(self) -> list[Word]:
        """All words, in the order of time."""
        return [word for segment in self.segments for word in segment.words]


@dataclass(frozen=True)
class Transcript:
    """What was said in one file.

    Attributes:
        name: of the file, without folder and ending.
        path: as it was given.
        model: that recognised it.
        tracks: one, or one per channel.
    """

    name: str
    path: str
    model: str
    tracks: tuple[TrackTranscript, ...]


def as_text(transcript: Transcript) -> str:
    """A line per segment; with several channels in the order of time, each with its channel."""
    several = len(transcript.tracks) > 1
    lines = [
        (segment.span.start, f"[{track.channel}] {segment.text}" if several else segment.text)
        for track in transcript.tracks
        for segment in track.segments
        if segment.words
    ]
    return "".join(f"{line}\n" for _, line in sorted(lines, key=lambda line: line[0]))


def as_json(transcript: Transcript) -> str:
    """Everything that is known; times in seconds."""
    tracks = [
        {
            "channel": track.channel,
            "seconds": round(track.seconds, 3),
            "segments": [_segment(segment) for segment in track.segments],
        }
        for track in transcript.tracks
    ]
    content = {"file": transcript.path, "model": transcript.model, "tracks": tracks}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start": round(segment.span.start, 3),
        "end": round(segment.span.end, 3),
        "text": segment.text,
        "confidence": _rounded(segment.confidence),
        "words": [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "confidence": _rounded(word.confidence),
            }
            for word in segment.words
        ],
    }


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 4)


def as_srt(transcript: Transcript) -> str:
    """SubRip captions; a speaker's dash names the channel where there are several."""
    several = len(transcript.tracks) > 1
    blocks = []
    for number, (channel, caption) in enumerate(_captions(transcript), 1):
        text = "\n".join(caption.lines)
        if several:
            text = f"[{channel}] {text}"
        times = f"{_clock(caption.start, ',')} --> {_clock(caption.end, ',')}"
        blocks.append(f"{number}\n{times}\n{text}\n")
    return "\n".join(blocks)


def as_vtt(transcript: Transcript) -> str:
    """WebVTT captions; with several channels each is a voice."""
    several = len(transcript.tracks) > 1
    blocks = ["WEBVTT\n"]
    for channel, caption in _captions(transcript):
        text = "\n".join(caption.lines)
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        if several:
            text = f"<v Channel {channel}>{text}</v>"
        blocks.append(f"{_clock(caption.start, '.')} --> {_clock(caption.end, '.')}\n{text}\n")
    return "\n".join(blocks)


def as_ctm(transcript: Transcript) -> str:
    """NIST CTM: file, channel, start, duration, word, confidence (1 where it is not known)."""
    lines = []
    name = transcript.name.replace(" ", "_")  # columns are separated by blanks
    for track in transcript.tracks:
        # ctm_lines counts in frames, the last one included: here they are milliseconds
        words = [
            TimedWord(
                word.text,
                round(1000 * word.start),
                max(round(1000 * word.end), round(1000 * word.start) + 1) - 1,
                1.0 if word.confidence is None else word.confidence,
            )
            for word in track.words
        ]
        lines += ctm_lines(name, words, 0.001, channel=str(track.channel or 1))
    return "".join(f"{line}\n" for line in lines)


#: name on the command line, which is the file's ending too -> writer
FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": as_text,
    "json": as_json,
    "srt": as_srt,
    "vtt": as_vtt,
    "ctm": as_ctm,
}


def _captions(transcript: Transcript) -> list[tuple[int | None, Caption]]:
    found = [
        (track.channel, caption) for track in transcript.tracks for caption in captions(track.words)
    ]
    return sorted(found, key=lambda pair: pair[1].start)


def _clock(seconds: float, point: str) -> str:
    whole = round(1000 * seconds)
    hours, rest = divmod(whole, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
