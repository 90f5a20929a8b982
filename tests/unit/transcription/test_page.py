"""The page of `demo` without a browser: answers, files to download, ports, and its command."""

from __future__ import annotations

import importlib.util
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.bin import demo
from espnet_plugin.transcription.page import DOWNLOADS, Page, free_port
from espnet_plugin.transcription.transcriber import Cutting, Transcriber
from espnet_plugin.transcription.words import Word

RATE = 1000


def hear(pieces: list[np.ndarray]) -> list[list[Word]]:
    """Two words of which the second has no confidence; none in silence."""
    words = [Word("hello", 0.0, 0.25, 0.5), Word("world", 0.5, 1.0)]
    return [words if piece.any() else [] for piece in pieces]


def page(folder: Path, channels: str = "mix") -> Page:
    transcriber = Transcriber(hear, RATE, "exp/model.zip", Cutting("none"), channels=channels)
    return Page(transcriber, folder)


def recording(folder: Path, name: str = "talk.wav", channels: int = 1, level: float = 0.1) -> str:
    soundfile.write(folder / name, np.full((2 * RATE, channels), level, "f4"), RATE)
    return str(folder / name)


def test_words_have_times_and_confidences(tmp_path: Path) -> None:
    found = page(tmp_path).answer(recording(tmp_path))
    assert found.text == "hello world"
    assert found.columns == ("word", "start (s)", "end (s)", "confidence")
    assert found.rows == [["hello", "0.00", "0.25", "0.50"], ["world", "0.50", "1.00", ""]]
    assert found.status.startswith("2.0 s of audio, transcribed in ")
    assert page(tmp_path).model == "model.zip"


def test_downloads_are_named_after_the_recording_and_kept_apart(tmp_path: Path) -> None:
    asked = page(tmp_path)
    first, second = (asked.answer(recording(tmp_path)).files for _ in range(2))
    assert [Path(path).name for path in first] == [f"talk.{ending}" for ending in DOWNLOADS]
    assert not set(first) & set(second)
    content = dict(zip(DOWNLOADS, (Path(path).read_text() for path in first), strict=True))
    assert content["srt"] == "1\n00:00:00,000 --> 00:00:01,000\nhello world\n"
    assert content["vtt"] == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nhello world\n"
    assert content["txt"] == "hello world\n"
    assert json.loads(content["json"])["tracks"][0]["segments"][0]["words"][1]["end"] == 1.0
    assert content["ctm"].splitlines()[0] == "talk 1 0.000 0.250 hello 0.5000"


def test_several_channels_are_told_apart(tmp_path: Path) -> None:
    found = page(tmp_path, "each").answer(recording(tmp_path, channels=2))
    assert found.columns[0] == "channel"
    assert [row[:2] for row in found.rows] == [
        ["1", "hello"], ["2", "hello"], ["1", "world"], ["2", "world"]
    ]  # fmt: skip


def test_silence_is_said_to_be_silence(tmp_path: Path) -> None:
    found = page(tmp_path).answer(recording(tmp_path, level=0.0))
    assert (found.text, found.rows) == ("", [])
    assert found.status.endswith("no speech was found in it")


def test_a_broken_file_is_named_without_the_servers_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"^notes\.wav: libsndfile cannot read it") as raised:
        page(tmp_path).answer(str(tmp_path / "notes.wav"))
    assert str(tmp_path) not in str(raised.value)
    with pytest.raises(ValueError, match="record or upload one"):
        page(tmp_path).answer(None)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_free_port_is_found(taken: int) -> None:
    port = free_port("127.0.0.1", 0)
    assert port not in (0, taken)
    assert free_port("127.0.0.1", port) == port


def test_a_port_that_is_taken(taken: int) -> None:
    with pytest.raises(ValueError, match=f"--port {taken} is taken.*give another port, or 0"):
        free_port("127.0.0.1", taken)


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_such_port(port: int) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 65535, got {port}"):
        free_port("127.0.0.1", port)


def test_no_address_of_this_machine() -> None:
    with pytest.raises(ValueError, match=r"--host 192\.0\.2\.1: .*give 127\.0\.0\.1"):
        free_port("192.0.2.1", 0)


@pytest.fixture
def gradio_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espnet_plugin.transcription.page.require_gradio", lambda: None)


@pytest.mark.usefixtures("gradio_is_there")
def test_command_refuses_a_taken_port_before_it_loads_the_model(
    taken: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "make_transcriber", lambda *args: pytest.fail("loads the model"))
    assert demo.main(["model.zip", "--port", str(taken)]) == 2
    assert f"--port {taken} is taken" in caplog.text


@pytest.mark.usefixtures("gradio_is_there")
def test_command_without_a_model_there(caplog: pytest.LogCaptureFixture) -> None:
    assert demo.main(["absent/model.zip", "--port", "0"]) == 2
    assert "absent/model.zip: no such file or folder" in caplog.text


def test_command_without_gradio(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gradio" else there(name)
    )
    assert demo.main(["model.zip", "--port", "0"]) == 2
    assert "needs gradio: pip install 'espnet-progressive[demo]'" in caplog.text


def test_options_of_cutting_and_search_are_those_of_transcribe() -> None:
    command = ["m.zip", "--beam_size", "4", "--lm", "word:a.arpa:0.5", "--longest", "10"]
    args, search = demo.parse(demo.get_parser(), command)
    assert search == {"beam_size": 4, "lm": ["word:a.arpa:0.5"]}
    assert (args.model, args.longest, args.host) == ("m.zip", 10.0, "127.0.0.1")
