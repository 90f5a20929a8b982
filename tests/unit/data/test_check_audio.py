"""Rules about audio: files, sampling rates, channels, segments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.data.check.folder import check_data_dir
from espnet_plugin.data.model_frames import ModelFrames
from tests.checked_data import RAW, UTTERANCES, audio_dir, the_error


def test_audio_of_no_use(tmp_path: Path) -> None:
    folder = audio_dir(tmp_path / "d")
    soundfile.write(folder / "a-1.wav", np.zeros(0, np.float32), 16000)
    (folder / "a-2.wav").write_bytes(b"no audio at all")
    report = check_data_dir(folder, RAW)
    assert not report.errors and report.usable == ["b-1", "b-2"]
    assert report.skipped["a-1"] == f"{folder}/a-1.wav: zero length"
    assert report.skipped["a-2"].startswith(f"{folder}/a-2.wav: unreadable (")
    samples = np.zeros(4000, np.float32)
    samples[9] = np.inf
    soundfile.write(folder / "a-1.wav", samples, 16000, subtype="FLOAT")
    (folder / "a-2.wav").unlink()
    report = check_data_dir(folder, replace(RAW, scan=0.0))  # float files are always read
    assert report.skipped == {
        "a-1": f"{folder}/a-1.wav: holds NaN or infinite samples",
        "a-2": f"{folder}/a-2.wav: no such file",
    }


def test_compressed_audio_cut_off_behind_a_whole_header(tmp_path: Path) -> None:
    folder = audio_dir(tmp_path / "d")
    noise = np.random.default_rng(1).standard_normal(16000) * 0.1
    flac = folder / "a-1.flac"
    soundfile.write(flac, noise, 16000, subtype="PCM_16")
    lines = (folder / "wav.scp").read_text().splitlines()
    (folder / "wav.scp").write_text("\n".join([f"a-1 {flac}", *lines[1:]]) + "\n")
    assert not check_data_dir(folder, RAW).skipped
    flac.write_bytes(flac.read_bytes()[:-100])
    assert soundfile.info(str(flac)).frames == 16000
    report = check_data_dir(folder, RAW)
    assert list(report.skipped) == ["a-1"]
    assert report.skipped["a-1"].startswith(f"{flac}: unreadable (")


def test_another_sampling_rate(tmp_path: Path) -> None:
    folder = audio_dir(tmp_path / "d")
    soundfile.write(folder / "b-1.wav", np.zeros(2000, np.float32), 8000)
    message = the_error(check_data_dir(folder, RAW))
    assert f"{folder}/wav.scp: sampling rate 8000 Hz, where 16000 Hz is the configured" in message
    assert ": b-1; resample" in message
    mixed = check_data_dir(folder, replace(RAW, frames=ModelFrames()))
    assert "where 16000 Hz is most files': b-1" in the_error(mixed)


def test_several_channels_are_only_warned_of(tmp_path: Path) -> None:
    folder = audio_dir(tmp_path / "d")
    soundfile.write(folder / "b-1.wav", np.zeros((4000, 2), np.float32), 16000)
    report = check_data_dir(folder, RAW)
    assert not report.errors and report.warnings == [
        f"{folder}/wav.scp: not 1 channel(s) as most: b-1"
    ]


def test_segments_of_recordings(tmp_path: Path) -> None:
    folder = audio_dir(tmp_path / "d")
    soundfile.write(folder / "long.wav", np.zeros(32000, np.float32), 16000)
    write_table(folder / "wav.scp", {"long": str(folder / "long.wav")})
    times = {"a-1": "0 0.5", "a-2": "0.5 1.5", "b-1": "1.5 2.02", "b-2": "1.5 2.5"}
    write_table(folder / "segments", {key: f"long {value}" for key, value in times.items()})
    report = check_data_dir(folder, RAW)
    assert not report.errors and list(report.skipped) == ["b-2"]
    assert "ends at 2.00 s, the segment at 2.5 s" in report.skipped["b-2"]
    assert report.speech == 32000
    write_table(folder / "segments", dict.fromkeys(UTTERANCES, "long 1 1") | {"b-2": "x 0 1"})
    broken = check_data_dir(folder, RAW).errors
    assert "0 <= start < end: a-1, a-2, b-1" in broken[0]
    assert "recordings that wav.scp does not have, of b-2" in broken[1]


def test_durations_leave_out_training_utterances_only(tmp_path: Path) -> None:
    folder = audio_dir(tmp_path / "d")
    lengths = {"a-1": 1600, "a-2": 8000, "b-1": 32000}
    for name, length in lengths.items():
        soundfile.write(folder / f"{name}.wav", np.zeros(length, np.float32), 16000)
    options = replace(RAW, durations=(0.1, 2.0), topology="rnnt")
    report = check_data_dir(folder, options)
    assert report.skipped == {
        "a-1": "0.10 s, not longer than --min_wav_duration 0.1",
        "b-1": "2.00 s, not shorter than --max_wav_duration 2",
    }
    assert not check_data_dir(folder, replace(options, evaluation=True)).skipped
    assert list(check_data_dir(folder, replace(options, durations=(0.0, 2.0))).skipped) == ["b-1"]
    with pytest.raises(ValueError, match="need --fs"):
        check_data_dir(folder, replace(options, frames=ModelFrames()))
