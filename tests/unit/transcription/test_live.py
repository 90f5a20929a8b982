"""Streams from pipes and microphones, and the command that reads them."""

from __future__ import annotations

import io
import json
import sys
import types
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espnet_plugin.bin import transcribe
from espnet_plugin.transcription.live import Pipe, ResultPrinter, microphone
from tests.tiny_model import ENCODER, write_model

RATE = 8000
SAMPLES = (np.sin(np.arange(4001) * 0.3) * 9000).astype("<i2")


def wav(samples: np.ndarray, rate: int = RATE, channels: int = 1, width: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return out.getvalue()


class Unseekable(io.RawIOBase):
    """Bytes as a pipe gives them: a few at a time, and never again."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._data.read(min(len(buffer), 37))
        buffer[: len(data)] = data
        return len(data)


def heard(data: bytes) -> tuple[int | None, np.ndarray]:
    pipe = Pipe(io.BufferedReader(Unseekable(data)))
    return pipe.rate, np.concatenate([*pipe.blocks(RATE), np.zeros(0, np.float32)])


def test_raw_samples_and_wav_streams(caplog: pytest.LogCaptureFixture) -> None:
    wanted = SAMPLES.astype(np.float32) / 32768
    for data, rate in ((SAMPLES.tobytes(), None), (wav(SAMPLES), RATE)):
        told, samples = heard(data)
        assert told == rate
        np.testing.assert_array_equal(samples, wanted)
    endless = bytearray(wav(SAMPLES))  # as ffmpeg writes one that it cannot go back in
    endless[4:8] = endless[40:44] = b"\xff\xff\xff\xff"
    np.testing.assert_array_equal(heard(bytes(endless))[1], wanted)
    stereo = np.stack([SAMPLES, 0 * SAMPLES], 1)
    np.testing.assert_allclose(heard(wav(stereo, channels=2))[1], wanted / 2)
    assert not caplog.records
    assert len(heard(SAMPLES.tobytes()[:-1])[1]) == 4000
    assert "stops within a sample" in caplog.text


def test_pipes_that_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="nothing came before its end"):
        heard(b"")
    with pytest.raises(ValueError, match=r"WAV stream that cannot be read \(it ends early\)"):
        heard(wav(SAMPLES)[:20])
    with pytest.raises(ValueError, match="WAV of 8 bits; 16-bit PCM is understood"):
        heard(wav(SAMPLES.astype("u1"), width=1))
    floats = bytearray(wav(SAMPLES))
    floats[20] = 3
    with pytest.raises(ValueError, match=r"cannot be read .unknown format"):
        heard(bytes(floats))


class Device:
    """sounddevice with a microphone that hears ones until somebody presses Ctrl-C."""

    class PortAudioError(Exception):
        """No device."""

    def __init__(self, blocks: int, works: bool = True) -> None:
        self.left, self.works = blocks, works

    def InputStream(self, rate: int, count: int, **options: Any) -> Device:
        if not self.works:
            raise self.PortAudioError("no default input device")
        return self

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True

    def read(self, count: int) -> tuple[np.ndarray, bool]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return np.ones((count, 1), np.float32), self.left == 1


def test_a_microphone_and_its_absence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(3)
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    blocks = list(microphone(RATE))
    assert [block.shape for block in blocks] == [(160,)] * 3 and device.closed
    assert "samples of the microphone were lost" in caplog.text
    monkeypatch.setitem(sys.modules, "sounddevice", Device(3, works=False))
    with pytest.raises(ValueError, match="cannot be used: no default input device"):
        next(microphone(RATE))
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ValueError, match=r"needs sounddevice .*pip install .*\[microphone\]"):
        next(microphone(RATE))


def test_what_is_printed() -> None:
    part = types.SimpleNamespace(
        segment=0, final=False, start=0.0, heard=0.32, text="ONE TWO", stable="ONE"
    )
    end = types.SimpleNamespace(**{**vars(part), "final": True, "text": "ONE", "heard": 0.6401})
    out, screen = io.StringIO(), io.StringIO()
    for result in (part, end):
        ResultPrinter(out, as_json=False, screen=None)(result)
    assert out.getvalue() == "ONE\n"
    show = ResultPrinter(io.StringIO(), as_json=False, screen=screen)
    show(part)
    show(end)
    assert screen.getvalue() == "\rONE TWO" + "\r" + " " * 7 + "\r"
    out = io.StringIO()
    ResultPrinter(out, as_json=True, screen=screen)(end)
    assert json.loads(out.getvalue()) == {
        "segment": 0, "final": True, "start": 0.0, "heard": 0.64, "text": "ONE", "stable": "ONE",
    }  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a model")
    _, path = write_model(
        folder,
        input_size=None,
        frontend="kaldi_fbank",
        frontend_conf={"fs": RATE, "n_mels": 8, "win_length": 200, "hop_length": 80},
        encoder_conf={**ENCODER, "chunk_sizes": [4, 8], "left_context": 8},
    )
    return path


def run(
    monkeypatch: pytest.MonkeyPatch, model: Path, data: bytes, *options: str, source: str = "-"
) -> int:
    stdin = types.SimpleNamespace(buffer=io.BufferedReader(Unseekable(data)))
    monkeypatch.setattr(sys, "stdin", stdin)
    return transcribe.main(["--streaming", "--model", str(model), *options, source])


def test_the_command_reads_a_pipe(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from espnet_plugin.inference.streaming import StreamingSpeech2Text

    noise = (np.random.default_rng(1).standard_normal(9000) * 3000).astype("<i2")
    options = ["--chunk_ms", "160", "--endpoint", "99"]
    assert run(monkeypatch, model, noise.tobytes(), *options) == 0
    text = capsys.readouterr().out
    recognise = StreamingSpeech2Text.from_pretrained(str(model), chunk_ms=160)
    assert text.strip() == recognise(noise.astype(np.float32) / 32768)[0][0] != ""
    assert run(monkeypatch, model, wav(noise), *options, "--format", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) > 2 and [line["final"] for line in lines[-2:]] == [False, True]
    assert lines[-1]["text"] == text.rstrip("\n")


def test_what_the_command_refuses(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cases = [
        (["--chunk_ms", "100"], b"x", "100 ms does not fit the subsampling"),
        ([], wav(SAMPLES, rate=44100), "the stream has 44100 Hz, the model takes 8000 Hz"),
        ([], b"", "nothing came before its end"),
        (["--format", "srt"], b"x", "txt or json, not srt"),
        (["--output_dir", "out"], b"x", "no --output_dir"),
        (["talk.wav"], b"x", "takes - (standard input) or --microphone"),
        (["--microphone"], b"x", "takes - (standard input) or --microphone"),
    ]
    for options, data, message in cases:
        caplog.clear()
        assert run(monkeypatch, model, data, *options) == 2
        assert message in caplog.text
    offline = Path(__file__).resolve().parents[2] / "fixtures" / "mini_tts.zip"
    assert run(monkeypatch, offline, b"x") == 2
    assert "sees whole utterances and cannot stream" in caplog.text
    for options, message in (
        (["--microphone"], "belong to --streaming"),
        ([], "name audio files"),
    ):
        assert transcribe.main(["--model", str(model), *options]) == 2
        assert message in caplog.text
