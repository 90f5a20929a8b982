"""What formatting makes of the recordings that real folders name: commands, rates, channels."""

from __future__ import annotations

import ast
import logging
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.bin import check_data
from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.jobs import format_data

FS = 16000
Folder = Callable[..., Path]


def tone(rate: int, hertz: float = 500.0, seconds: float = 0.5) -> np.ndarray:
    """[T] in float."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Makes data/{wav.scp,text} of these entries."""

    def make(entries: dict[str, str], segments: dict[str, str] | None = None) -> Path:
        data = tmp_path / "data"
        write_table(data / "wav.scp", entries)
        write_table(data / "text", dict.fromkeys(segments or entries, "A"))
        if segments:
            write_table(data / "segments", segments)
        return data

    return make


def run(data: Path, *options: str) -> int:
    out = data.parent / "out"
    given = ["--data_dir", str(data), "--out_dir", str(out), "--fs", str(FS), *options]
    return format_data.main(given)


def written(data: Path) -> dict[str, str]:
    lines = (data.parent / "out/wav.scp").read_text().splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def read(data: Path, utterance: str) -> np.ndarray:
    samples, rate = soundfile.read(written(data)[utterance], dtype="int16")
    assert rate == FS
    return np.asarray(samples)


def wav(path: Path, samples: np.ndarray, rate: int = FS, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


# Commands -----------------------------------------------------------------------------------------


def counted(path: Path) -> str:
    """A command that writes the file and notes in `calls` that it ran."""
    calls = shlex.quote(str(path.parent / "calls"))
    return f"echo x >>{calls}; cat {shlex.quote(str(path))} |"


def test_commands_run_once_and_give_the_same_samples(tmp_path: Path, folder: Folder) -> None:
    source = wav(tmp_path / "a b.wav", tone(FS))
    data = folder({"u": counted(source), "v": f"cat <{shlex.quote(str(source))} | cat |"})
    assert run(data) == 0
    expected = soundfile.read(source, dtype="int16")[0]
    np.testing.assert_array_equal(read(data, "u"), expected)
    np.testing.assert_array_equal(read(data, "v"), expected)
    assert str(tmp_path / "out") in written(data)["u"] and written(data)["u"].endswith(".flac")
    assert run(data) == 0 and (tmp_path / "calls").read_text() == "x\n"
    checked = ["--data_dir", str(tmp_path / "out"), "--fs", str(FS)]
    assert check_data.main(checked) == 0


def test_a_recordings_command_runs_once_for_all_its_segments(
    tmp_path: Path, folder: Folder
) -> None:
    samples = np.arange(FS, dtype=np.int16)
    source = wav(tmp_path / "a.wav", samples)
    segments = {f"r-{n}": f"r 0.{n} 0.{n + 1}" for n in range(1, 6)}
    data = folder({"r": counted(source)}, segments)
    assert run(data, "--nj", "2", "--audio_format", "wav") == 0
    np.testing.assert_array_equal(read(data, "r-3"), samples[4800:6400])
    assert written(data)["r-3"].endswith(".wav")
    assert (tmp_path / "calls").read_text() == "x\n"


def test_a_stream_that_does_not_know_its_length(tmp_path: Path, folder: Folder) -> None:
    """sox and ffmpeg write headers of 2 GiB or more into a pipe."""
    content = wav(tmp_path / "a.wav", tone(FS)).read_bytes()
    at = content.index(b"data") + 4
    (tmp_path / "b.wav").write_bytes(content[:at] + b"\x00\xf0\xff\x7f" + content[at + 4 :])
    data = folder({"u": f"cat {tmp_path / 'b.wav'} |"})
    assert run(data) == 0 and len(read(data, "u")) == FS // 2


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-sph2pipe -f wav x.sph |", "`no-such-sph2pipe -f wav x.sph` ended with status"),
        ("echo broken disk >&2; exit 3 |", "ended with status 3: broken disk"),
        ("cat no-such-file.wav | cat |", "No such file"),
        ("echo no audio |", "`echo no audio` wrote no audio"),
    ],
)
def test_a_failed_command_is_named_with_its_last_words(
    tmp_path: Path, folder: Folder, caplog: pytest.LogCaptureFixture, command: str, message: str
) -> None:
    source = wav(tmp_path / "a.wav", tone(FS))
    data = folder({"s": counted(source), "u": command})
    assert run(data) == 2
    assert "wav.scp: recording u: " in caplog.text and message in caplog.text
    assert not (tmp_path / "out/wav.scp").exists()
    write_table(data / "wav.scp", {"s": counted(source), "u": f"cat {source} |"})
    assert run(data) == 0  # and what was there already stays
    assert (tmp_path / "calls").read_text() == "x\n"


def test_a_reader_that_wants_no_more_is_no_failure(tmp_path: Path, folder: Folder) -> None:
    source = wav(tmp_path / "a.wav", tone(FS, seconds=60))
    data = folder({"u": f"cat {source} | head -c 16044 |"})
    assert run(data) == 0 and len(read(data, "u")) == 8000


def test_nothing_but_formatting_runs_commands() -> None:
    """Neither models nor packages, whose folders may be a stranger's."""
    package = Path(format_data.__file__).parents[1]
    runs, shells = set(), set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "espnet_plugin.data.recordings":
                if {"prepare", "opened"} & {name.name for name in node.names}:
                    runs.add(path.name)
            elif isinstance(node, ast.keyword) and node.arg == "shell":
                shells.add(path.name)
    assert runs == {"format_data.py"} and not shells


# Rates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "subtype"), [(44100, "PCM_32"), (8000, "PCM_16")])
def test_other_rates_are_resampled_and_told_once(
    tmp_path: Path, folder: Folder, caplog: pytest.LogCaptureFixture, rate: int, subtype: str
) -> None:
    caplog.set_level(logging.INFO)
    paths = {n: str(wav(tmp_path / f"{n}.wav", tone(rate), rate, subtype)) for n in ("u", "v")}
    data = folder(paths)
    assert run(data) == 0
    told = [record for record in caplog.records if "sampled from" in record.message]
    assert [record.message.split(": ", 1)[1].split(",")[0] for record in told] == [
        f"{'up' if rate < FS else 're'}sampled from {rate} Hz to {FS} Hz: 2 pieces"
    ]
    assert (told[0].levelname == "WARNING") == (rate < FS)
    found, expected = read(data, "u") / 32768, tone(FS)
    assert len(found) == len(expected)
    assert np.abs(found - expected)[800:-800].max() < 1e-3
    assert run(data) == 0 and len(caplog.records) == 1


def test_segments_are_cut_in_the_recordings_time_then_resampled(
    tmp_path: Path, folder: Folder
) -> None:
    source = wav(tmp_path / "a.wav", tone(48000, seconds=1.0), 48000)
    data = folder({"r": str(source)}, {"r-a": "r 0.25 0.75"})
    assert run(data) == 0
    found, expected = read(data, "r-a") / 32768, tone(FS, seconds=1.0)[4000:12000]
    assert len(found) == 8000 and np.abs(found - expected)[800:-800].max() < 1e-3


def test_what_is_as_wanted_or_unreadable_stays_where_it_is(tmp_path: Path, folder: Folder) -> None:
    """The data check names what cannot be read, and leaves it out."""
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    entries = {"a": str(wav(tmp_path / "a.wav", tone(FS), FS, "FLOAT")), "b": "nowhere.wav",
               "c": str(tmp_path / "bad.wav")}  # fmt: skip
    assert run(folder(entries)) == 0
    assert written(tmp_path / "data") == entries and not (tmp_path / "out/audio").exists()


# Channels -----------------------------------------------------------------------------------------


@pytest.fixture
def stereo(tmp_path: Path, folder: Folder) -> Path:
    samples = np.stack([np.arange(1000), 4000 + np.arange(1000)], 1).astype(np.int16)  # [T, 2]
    return folder({"u": str(wav(tmp_path / "u.wav", samples))})


def test_channels_that_nobody_chose_are_named(
    stereo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(stereo) == 2
    assert "utterance u: " in caplog.text and "u.wav has 2 channel(s)" in caplog.text
    assert "--channel: a number from 1, mean or all" in caplog.text
    assert run(stereo, "--channel", "3") == 2
    assert "has 2 channel(s), not 3" in caplog.text


def test_the_channel_is_chosen(stereo: Path) -> None:
    ramp = np.arange(1000)
    for channel, expected in (("1", ramp), ("2", ramp + 4000), ("mean", ramp + 2000)):
        assert run(stereo, "--channel", channel) == 0
        np.testing.assert_array_equal(read(stereo, "u"), expected)
    assert run(stereo, "--channel", "all") == 0
    assert written(stereo)["u"] == str(stereo.parent / "u.wav")
    write_table(stereo / "reco2file_and_channel", {"u": "call B"})
    assert run(stereo) == 0
    np.testing.assert_array_equal(read(stereo, "u"), ramp + 4000)


def test_a_side_that_a_command_cut_out_has_one_channel(tmp_path: Path, folder: Folder) -> None:
    """Kaldi's telephone folders name side B in the table, and sph2pipe gives it alone."""
    samples = np.arange(1000, dtype=np.int16)
    data = folder({"c-B": f"cat {wav(tmp_path / 'b.wav', samples)} |"}, {"c-B_1": "c-B 0 0.05"})
    write_table(data / "reco2file_and_channel", {"c-B": "c B"})
    assert run(data) == 0
    np.testing.assert_array_equal(read(data, "c-B_1"), samples[:800])
