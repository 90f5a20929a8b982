"""Reading audio: formats, rates, channels, and files that are no audio."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.transcription.audio import read_tracks
from espnet_plugin.transcription.files import find_sources, is_done
from espnet_plugin.transcription.vad import speech_regions

RATE = 16000
LOCAL = Path(__file__).resolve().parents[3] / "egs2" / "mini_tts" / "asr1" / "local"


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("f4")


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    length = min(len(a), len(b))
    return float(np.corrcoef(a[:length], b[:length])[0, 1])


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64"])
def test_formats(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, tone(1.3, RATE), RATE)
    (track,) = read_tracks(path, RATE)
    # compressed formats may add a block of silence at the end
    assert track.samples.dtype == np.float32 and 0 <= track.seconds - 1.3 < 0.15
    assert correlation(track.samples[800:], tone(1.3, RATE)[800:]) > 0.98


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_resampling_over_block_borders_has_no_seam_and_is_told(
    tmp_path: Path, rate: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(65.0, rate), rate, subtype="FLOAT")
    with caplog.at_level(logging.INFO):
        (track,) = read_tracks(path, RATE)
    assert f"resampled from {rate} to {RATE} Hz" in caplog.text
    assert track.seconds == pytest.approx(65.0, abs=0.002)
    expected = tone(65.0, RATE)[: len(track.samples)]
    inner = slice(RATE, 64 * RATE)
    assert np.abs(track.samples[inner] - expected[inner]).max() < 0.01


def test_channels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left, right = tone(1.0, RATE, 300.0), tone(1.0, RATE, 1000.0)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    with caplog.at_level(logging.INFO):
        (mean,) = read_tracks(path, RATE)
    assert "mean of its 2 channels" in caplog.text
    assert np.allclose(mean.samples, (left + right) / 2, atol=1e-6) and mean.channel is None
    first, second = read_tracks(path, RATE, "each")
    assert (first.channel, second.channel) == (1, 2)
    assert np.allclose(first.samples, left) and np.allclose(second.samples, right)
    (only,) = read_tracks(path, RATE, "2")
    assert np.allclose(only.samples, right)
    for wrong in ("3", "0", "left"):
        with pytest.raises(ValueError, match=rf"--channels {wrong}, but it has 2"):
            read_tracks(path, RATE, wrong)


def test_files_that_are_no_audio(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no audio at all\n" * 100)
    with pytest.raises(ValueError, match=r"text.wav: libsndfile cannot read it .*ffmpeg"):
        read_tracks(tmp_path / "text.wav", RATE)
    with pytest.raises(ValueError, match=r"none.wav: no such file"):
        read_tracks(tmp_path / "none.wav", RATE)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, "f4"), RATE)
    with pytest.raises(ValueError, match=r"empty.wav: there is no audio in it"):
        read_tracks(tmp_path / "empty.wav", RATE)
    broken = tone(0.5, RATE)
    broken[100] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"nan.wav: has samples that are no finite numbers"):
        read_tracks(tmp_path / "nan.wav", RATE)


def test_a_folder_is_searched_and_its_structure_kept(tmp_path: Path) -> None:
    for name in ("one/001.wav", "two/001.FLAC", "two/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sources = find_sources([tmp_path])
    assert [str(source.output) for source in sources] == ["one/001", "two/001"]
    with pytest.raises(ValueError, match="would both be called 001"):
        find_sources([tmp_path / "one/001.wav", tmp_path / "two/001.FLAC"])
    assert len(find_sources([tmp_path / "one/001.wav"] * 2)) == 1
    (tmp_path / "three").mkdir()
    with pytest.raises(ValueError, match="no audio file in this folder"):
        find_sources([tmp_path / "three"])


def test_done_means_every_transcript_is_there_and_newer(tmp_path: Path) -> None:
    audio = tmp_path / "a.b.wav"
    audio.touch()
    (source,) = find_sources([audio])
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.b.txt").touch()
    assert is_done(source, out, ["txt"]) and not is_done(source, out, ["txt", "srt"])
    later = audio.stat().st_mtime + 10
    import os

    os.utime(audio, (later, later))
    assert not is_done(source, out, ["txt"])


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Two sentences by eSpeak, at its own rate resampled to 16 kHz."""
    import sys

    import soxr

    sys.path.insert(0, str(LOCAL))
    try:
        espeak = importlib.import_module("espeak")
        voice = espeak.Espeak()
        say = [
            voice.say(text, espeak.Delivery("en-us", 150, 50, 50))
            for text in ("seven four two nine five", "please turn the radio in the kitchen off")
        ]
        rate = voice.sample_rate
    finally:
        sys.path.remove(str(LOCAL))
    return [soxr.resample(x / np.abs(x).max() * 0.5, rate, RATE).astype("f4") for x in say]


def recording(speech: list[np.ndarray]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Silence, speech, silence, speech, silence, with faint noise; and where the speech is."""
    rng = np.random.default_rng(1)
    parts, times, at = [], [], 0.0
    for silence, said in ((2.0, speech[0]), (3.0, speech[1])):
        parts += [np.zeros(round(silence * RATE), "f4"), said]
        times.append((at + silence, at + silence + len(said) / RATE))
        at = times[-1][1]
    samples = np.concatenate([*parts, np.zeros(2 * RATE, "f4")])
    return samples + 1e-4 * rng.standard_normal(len(samples)).astype("f4"), times


@pytest.mark.parametrize("rate", [16000, 8000, 22050])
def test_speech_is_found_where_it_is(speech: list[np.ndarray], rate: int) -> None:
    import soxr
    import torch

    samples, times = recording(speech)
    before = torch.get_num_threads()
    found = speech_regions(soxr.resample(samples, RATE, rate), rate, 20.0)
    assert torch.get_num_threads() == before
    for start, end in times:
        own = [r for r in found if r.start < end and r.end > start]
        assert own and abs(own[0].start - start) < 0.35 and abs(own[-1].end - end) < 0.45
    shared = [min(r.end, end) - max(r.start, start) for start, end in times for r in found]
    inside = sum(max(0.0, seconds) for seconds in shared)
    assert inside > 0.9 * sum(r.seconds for r in found)


def test_long_speech_is_cut_to_the_longest(speech: list[np.ndarray]) -> None:
    samples = np.concatenate([speech[1]] * 6)
    found = speech_regions(samples, RATE, 4.0)
    assert len(found) > 3 and max(r.seconds for r in found) <= 4.1


def test_silence_has_no_speech() -> None:
    assert speech_regions(np.zeros(3 * RATE, "f4"), RATE, 20.0) == []
