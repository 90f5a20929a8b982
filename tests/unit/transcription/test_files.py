"""The run over files with a recogniser that reads amplitudes, and what is written."""

from __future__ import annotations

import itertools
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.transcription.formats import FORMATS, TrackTranscript, Transcript
from espnet_plugin.transcription.spans import Span
from espnet_plugin.transcription.transcriber import Cutting, Transcriber
from espnet_plugin.transcription.words import Segment, Word

RATE = 1000
STEP = 0.5  # a word lasts half a second, and its amplitude says which one it is
WINDOWS = Cutting("windows", 10.0, 2.0)


def write(path: Path, words: list[int], channels: int = 1) -> Path:
    """Word n is half a second of the value n / 100, with a short dip between words."""
    samples = np.concatenate([[n / 100] * 480 + [0.0] * 20 for n in words]).astype("f4")
    track = np.stack([samples / (c + 1) for c in range(channels)], axis=1)
    soundfile.write(path, track, RATE, subtype="FLOAT")
    return path


def reads_amplitudes(pieces: list[np.ndarray]) -> list[list[Word]]:
    """What `write` wrote; a run that the border of a piece cut is heard as another word."""
    found = []
    for piece in pieces:
        values = np.round(piece * 100).astype(int)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], values, [0]])))
        runs = [(a, b) for a, b in itertools.pairwise(edges) if values[a]]
        if any(values[a] == 66 for a, _ in runs):
            raise RuntimeError("this word breaks the model")
        found.append(
            [
                Word(f"w{values[a]}" if b - a == 480 else "cut", a / RATE, b / RATE, 0.5)
                for a, b in runs
            ]
        )
    return found


def run(paths: list[Path], cutting: Cutting = WINDOWS, **options: object):
    done: list[float] = []
    job = Transcriber(
        reads_amplitudes, RATE, "model", cutting, batch_size=3, progress=done.append, **options
    )
    return dict(job.run(paths)), done


def test_long_and_short_files_come_out_whole_and_in_order(tmp_path: Path) -> None:
    words = [1 + (7 * n) % 50 for n in range(97)]
    paths = [write(tmp_path / "long.wav", words), write(tmp_path / "short.wav", [5, 6])]
    found, done = run(paths)
    assert list(found) == paths
    heard = [word.text for word in found[paths[0]].tracks[0].words]
    assert heard == [f"w{n}" for n in words]
    starts = [word.start for word in found[paths[0]].tracks[0].words]
    assert np.allclose(starts, STEP * np.arange(97), atol=1e-6)
    assert [w.text for w in found[paths[1]].tracks[0].words] == ["w5", "w6"]
    assert sum(done) >= 97 * STEP + 1


def test_one_broken_file_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    paths = [
        write(tmp_path / "good.wav", [1, 2]),
        tmp_path / "text.wav",
        tmp_path / "absent.wav",
        write(tmp_path / "breaks.wav", [1, 2, 66]),
        write(tmp_path / "last.wav", [3]),
    ]
    found, _ = run(paths)
    assert [path.stem for path in paths if found[path] is None] == ["text", "absent", "breaks"]
    assert [w.text for w in found[paths[-1]].tracks[0].words] == ["w3"]
    assert "breaks.wav: cannot be recognised from 0.0 to 1.5 s" in caplog.text
    assert "this word breaks the model" in caplog.text


def test_channels_one_by_one(tmp_path: Path) -> None:
    path = write(tmp_path / "two.wav", [10, 20], channels=2)
    found, _ = run([path], channels="each")
    assert [t.channel for t in found[path].tracks] == [1, 2]
    assert [[w.text for w in t.words] for t in found[path].tracks] == [
        ["w10", "w20"],
        ["w5", "w10"],
    ]


def test_silence_gives_an_empty_transcript_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "silent.wav", [0, 0, 0])
    found, _ = run([path])
    assert FORMATS["txt"](found[path]) == ""
    assert "silent.wav: no speech found in it" in caplog.text


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="segmentation must be one of"):
        Cutting("guess")
    with pytest.raises(ValueError, match="more than twice"):
        Cutting("vad", 3.0, 2.0)
    with pytest.raises(ValueError, match="--batch_size must be at least 1, got 0"):
        Transcriber(reads_amplitudes, RATE, "model", WINDOWS, batch_size=0)


def transcript(several: bool = False) -> Transcript:
    words = (Word("A<B", 0.5, 0.9, 0.25), Word("&", 1.0, 1.2, 0.75), Word("C", 3661.0, 3661.5))
    segments = (Segment(Span(0.0, 2.0), words[:2]), Segment(Span(3660.0, 3662.0), words[2:]))
    tracks = [TrackTranscript(1 if several else None, 3662.0, segments)]
    if several:
        other = Segment(Span(0.2, 1.0), (Word("HELLO", 0.2, 0.4, 1.0),))
        tracks.append(TrackTranscript(2, 3662.0, (other,)))
    return Transcript("my talk", "in/my talk.wav", "some/model", tuple(tracks))


def test_text() -> None:
    assert FORMATS["txt"](transcript()) == "A<B &\nC\n"
    assert FORMATS["txt"](transcript(True)) == "[1] A<B &\n[2] HELLO\n[1] C\n"


def test_json() -> None:
    content = json.loads(FORMATS["json"](transcript()))
    assert content["file"] == "in/my talk.wav" and content["model"] == "some/model"
    (track,) = content["tracks"]
    assert track["channel"] is None and track["seconds"] == 3662.0
    assert track["segments"][0]["text"] == "A<B &" and track["segments"][0]["confidence"] == 0.5
    assert track["segments"][1]["words"] == [
        {"word": "C", "start": 3661.0, "end": 3661.5, "confidence": None}
    ]


def test_ctm_has_the_columns_that_sclite_reads() -> None:
    assert FORMATS["ctm"](transcript(True)).splitlines() == [
        "my_talk 1 0.500 0.400 A<B 0.2500",
        "my_talk 1 1.000 0.200 & 0.7500",
        "my_talk 1 3661.000 0.500 C 1.0000",
        "my_talk 2 0.200 0.200 HELLO 1.0000",
    ]


def test_srt_and_vtt() -> None:
    assert FORMATS["srt"](transcript()) == (
        "1\n00:00:00,500 --> 00:00:01,500\nA<B &\n\n2\n01:01:01,000 --> 01:01:02,000\nC\n"
    )
    assert FORMATS["vtt"](transcript()) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\nA&lt;B &amp;\n\n"
        "01:01:01.000 --> 01:01:02.000\nC\n"
    )
    both = FORMATS["vtt"](transcript(True))
    assert re.findall(r"<v Channel (\d)>(\S+)", both) == [
        ("2", "HELLO</v>"),
        ("1", "A&lt;B"),
        ("1", "C</v>"),
    ]
    assert "[2] HELLO" in FORMATS["srt"](transcript(True))


def test_resampling_and_mixing_notices_reach_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((4000, 2), "f4"), 4 * RATE)
    with caplog.at_level(logging.INFO):
        run([path])
    assert "resampled from 4000 to 1000 Hz" in caplog.text and "2 channels" in caplog.text
