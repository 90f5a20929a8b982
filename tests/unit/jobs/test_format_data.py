"""Formatting of data folders: segments cut to the sample, features passed through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.corpora.kaldi_dir import write_ark, write_table
from espnet_plugin.jobs import format_data


@pytest.fixture
def recording(tmp_path: Path) -> np.ndarray:
    """A second of a 1000 Hz ramp in data/wav.scp, with two segments of it."""
    samples = np.arange(1000, dtype=np.int16)
    soundfile.write(tmp_path / "r.wav", samples, 1000, subtype="PCM_16")
    data = tmp_path / "data"
    write_table(data / "wav.scp", {"r": str(tmp_path / "r.wav")})
    write_table(data / "segments", {"r-b": "r 0.5 -1", "r-a": "r 0.1 0.25"})
    write_table(data / "text", {"r-a": "A", "r-b": "B"})
    return samples


def run(tmp_path: Path, *options: str) -> int:
    folders = ["--data_dir", str(tmp_path / "data"), "--out_dir", str(tmp_path / "out")]
    return format_data.main([*folders, "--fs", "1000", *options])


def cut(tmp_path: Path) -> dict[str, np.ndarray]:
    lines = (tmp_path / "out/wav.scp").read_text().splitlines()
    paths = dict(line.split() for line in lines)
    return {key: soundfile.read(path, dtype="int16")[0] for key, path in paths.items()}


def test_segments_are_cut_exactly(tmp_path: Path, recording: np.ndarray) -> None:
    assert run(tmp_path) == 0
    found = cut(tmp_path)
    assert list(found) == ["r-a", "r-b"]
    np.testing.assert_array_equal(found["r-a"], recording[100:250])
    np.testing.assert_array_equal(found["r-b"], recording[500:])
    assert not (tmp_path / "out/segments").exists()


def test_second_call_does_nothing(
    tmp_path: Path, recording: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == 0 and run(tmp_path) == 0
    assert "up to date" in capsys.readouterr().out


def test_changed_times_are_cut_again(tmp_path: Path, recording: np.ndarray) -> None:
    assert run(tmp_path) == 0
    write_table(tmp_path / "data/segments", {"r-b": "r 0.6 0.8", "r-a": "r 0.1 0.25"})
    assert run(tmp_path) == 0
    np.testing.assert_array_equal(cut(tmp_path)["r-b"], recording[600:800])


def test_what_a_broken_run_wrote_is_not_taken_for_the_run_before(
    tmp_path: Path, recording: np.ndarray
) -> None:
    assert run(tmp_path) == 0
    speakers = tmp_path / "data/utt2spk"
    speakers.write_bytes(b"r-a caf\xe9\n")
    assert run(tmp_path, "--audio_format", "wav") == 2  # the speech is written by then
    assert all(path.suffix == ".wav" for path in listed(tmp_path))
    speakers.unlink()
    assert run(tmp_path) == 0
    assert all(path.suffix == ".flac" for path in listed(tmp_path))


def listed(tmp_path: Path) -> list[Path]:
    return [Path(line.split()[1]) for line in (tmp_path / "out/wav.scp").read_text().splitlines()]


def test_without_segments_the_list_passes(tmp_path: Path, recording: np.ndarray) -> None:
    (tmp_path / "data/segments").unlink()
    write_table(tmp_path / "data/text", {"r": "A"})
    assert run(tmp_path) == 0
    assert (tmp_path / "out/wav.scp").read_text() == (tmp_path / "data/wav.scp").read_text()


def test_features_pass_with_their_size(tmp_path: Path) -> None:
    rows = write_ark(tmp_path / "f.ark", [("u", np.zeros((7, 13), np.float32))])
    write_table(tmp_path / "data/feats.scp", rows)
    write_table(tmp_path / "data/text", {"u": "A"})
    assert run(tmp_path, "--feats_type", "extracted") == 0
    assert (tmp_path / "out/feats_dim").read_text() == "13\n"


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ({"u": "r 0.5 0.2"}, "utterance u: impossible times"),
        ({"u": "q 0 1"}, "recording q is not in"),
        ({"u": "r 0"}, "expected 'recording begin end'"),
        ({"u": "r 2 3"}, "nothing between 2.0 s and 3.0 s"),
    ],
)
def test_bad_segments_are_named(
    tmp_path: Path, recording: np.ndarray, caplog: pytest.LogCaptureFixture,
    segments: dict[str, str], message: str,
) -> None:  # fmt: skip
    write_table(tmp_path / "data/segments", segments)
    assert run(tmp_path) == 2
    assert message in caplog.text and "segments" in caplog.text


@pytest.fixture
def two_sides(tmp_path: Path) -> np.ndarray:
    """A second of two channels, each a recording of its own with one segment."""
    samples = np.stack([np.arange(1000), 5000 + np.arange(1000)], 1).astype(np.int16)  # [T, 2]
    soundfile.write(tmp_path / "c.wav", samples, 1000, subtype="PCM_16")
    data = tmp_path / "data"
    write_table(data / "wav.scp", dict.fromkeys(("c-A", "c-B"), str(tmp_path / "c.wav")))
    write_table(data / "segments", {"c-A_1": "c-A 0.1 0.3", "c-B_1": "c-B 0.2 0.3"})
    write_table(data / "text", {"c-A_1": "A", "c-B_1": "B"})
    return samples


def test_each_side_is_cut_from_its_channel(tmp_path: Path, two_sides: np.ndarray) -> None:
    write_table(tmp_path / "data/reco2file_and_channel", {"c-A": "c A", "c-B": "c B"})
    assert run(tmp_path) == 0
    found = cut(tmp_path)
    np.testing.assert_array_equal(found["c-A_1"], two_sides[100:300, 0])
    np.testing.assert_array_equal(found["c-B_1"], two_sides[200:300, 1])
    assert not (tmp_path / "out/reco2file_and_channel").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "has 2 channel(s); reco2file_and_channel has to say which"),
        ({"c-A": "c A", "c-B": "c third"}, "recording c-B: expected 'file channel'"),
    ],
)
def test_a_channel_that_nothing_names_is_refused(
    tmp_path: Path, two_sides: np.ndarray, caplog: pytest.LogCaptureFixture,
    table: dict[str, str] | None, message: str,
) -> None:  # fmt: skip
    if table is not None:
        write_table(tmp_path / "data/reco2file_and_channel", table)
    assert run(tmp_path) == 2
    assert message in caplog.text


def test_transcripts_are_cleaned_by_espnets_cleaner(
    tmp_path: Path, recording: np.ndarray, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    from espnet2.text import cleaner

    assert run(tmp_path, "--cleaner", "tacotrom") == 2
    assert "--cleaner tacotrom: ESPnet knows tacotron, jaconv" in caplog.text
    monkeypatch.setattr(cleaner, "tacotron_cleaners", None)
    assert run(tmp_path, "--cleaner", "tacotron") == 2
    assert "--cleaner tacotron: tacotron_cleaner is not installed" in caplog.text
    assert not (tmp_path / "out").exists()

    class Cleaners:
        custom_english_cleaners = staticmethod(str.swapcase)

    monkeypatch.setattr(cleaner, "tacotron_cleaners", Cleaners)
    assert run(tmp_path, "--cleaner", "tacotron") == 0
    assert (tmp_path / "out/text").read_text() == "r-a a\nr-b b\n"
    assert run(tmp_path, "--cleaner", "none") == 0
    assert (tmp_path / "out/text").read_text() == "r-a A\nr-b B\n"
