"""Audio that is still coming in, from a pipe or a microphone, and results while it does.

Shapes: L samples.
"""

from __future__ import annotations

import io
import json
import logging
import wave
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

import numpy as np

_LOG = logging.getLogger(__name__)
SECONDS = 0.02  # read at once
_WIDTH = 2  # bytes of a sample
_SCALE = 32768.0
_UNDERSTOOD = "16-bit PCM is understood: ffmpeg -i INPUT -ac 1 -c:a pcm_s16le -f wav -"


class _Rest:
    """A pipe some bytes of which were read already; it cannot seek."""

    def __init__(self, begin: bytes, pipe: BinaryIO) -> None:
        self._begin, self._pipe = begin, pipe

    def read(self, size: int = -1) -> bytes:
        given, self._begin = self._begin[:size], self._begin[size:]
        return given + self._pipe.read(size - len(given))

    def flush(self) -> None:
        """`wave` calls it."""


class Pipe:
    """Samples of a WAV stream (16 bits), or of raw 16-bit little-endian mono.

    Args:
        file: standard input, in bytes.
        name: for messages.

    Attributes:
        rate: samples per second that a WAV stream tells; None for raw samples.

    Raises:
        ValueError: nothing came, or a WAV stream of another coding or with a broken header.
    """

    def __init__(self, file: BinaryIO, name: str = "standard input") -> None:
        self._name, self.rate = name, None
        begin = file.read(4)
        if not begin:
            raise ValueError(f"{name}: nothing came before its end")
        self._file: Any = _Rest(begin, file)
        self._channels = 1
        if begin == b"RIFF":
            self._open_wave()

    def _open_wave(self) -> None:
        try:
            found = wave.open(self._file)  # noqa: SIM115  (standard input is not ours to close)
        except (wave.Error, EOFError) as error:
            why = str(error) or "it ends early"
            raise ValueError(
                f"{self._name}: a WAV stream that cannot be read ({why}); {_UNDERSTOOD}"
            ) from error
        if found.getsampwidth() != _WIDTH:
            bits = 8 * found.getsampwidth()
            raise ValueError(f"{self._name}: WAV of {bits} bits; {_UNDERSTOOD}")
        self.rate, self._channels, self._wave = found.getframerate(), found.getnchannels(), found

    def blocks(self, rate: int) -> Iterator[np.ndarray]:
        """Samples [L] in [-1, 1] as they come, channels averaged, 20 ms at a time, to the end."""
        count = max(round(SECONDS * rate), 1)
        size = count * _WIDTH * self._channels
        while data := self._wave.readframes(count) if self.rate else self._file.read(size):
            whole = len(data) - len(data) % (_WIDTH * self._channels)
            if whole < len(data):
                _LOG.warning("%s stops within a sample; the rest of it is left out", self._name)
            samples = np.frombuffer(data[:whole], dtype="<i2").astype(np.float32) / _SCALE
            yield samples.reshape(-1, self._channels).mean(1, dtype=np.float32)


def microphone(rate: int) -> Iterator[np.ndarray]:
    """Samples [L] of the default input device, until Ctrl-C, which ends the stream in peace.

    Raises:
        ValueError: sounddevice, its library or a device is missing.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: its library PortAudio is missing
        raise ValueError(
            f"a microphone needs sounddevice ({error}): pip install "
            "'espnet-progressive[microphone]', on Linux with the system's package libportaudio2; "
            "or pipe audio in: arecord -f S16_LE -r 16000 | espnet-progressive transcribe "
            "--streaming --model MODEL -"
        ) from error
    count = max(round(SECONDS * rate), 1)
    try:
        with sounddevice.InputStream(rate, count, channels=1, dtype="float32") as stream:
            while True:
                samples, overflowed = stream.read(count)
                if overflowed:
                    _LOG.warning("this machine is too slow: samples of the microphone were lost")
                yield samples[:, 0]
    except KeyboardInterrupt:
        return
    except sounddevice.PortAudioError as error:
        raise ValueError(f"the microphone cannot be used: {error}") from error


class ResultPrinter:
    """Prints results as they come.

    Args:
        out: where finished segments go, a line each; in JSON every result.
        as_json: JSON, an object a line.
        screen: where the present text is shown and overwritten; None: nowhere.
    """

    def __init__(self, out: TextIO, as_json: bool, screen: TextIO | None = None) -> None:
        self._out, self._json = out, as_json
        self._screen, self._width = None if as_json else screen, 0

    def __call__(self, result: Any) -> None:
        """Print a `StreamResult`."""
        if self._json:
            entry = {
                name: getattr(result, name)
                for name in ("segment", "final", "start", "heard", "text", "stable")
            }
            entry |= {name: round(entry[name], 3) for name in ("start", "heard")}
            self._write(self._out, json.dumps(entry, ensure_ascii=False) + "\n")
            return
        if self._screen is not None:
            text = "" if result.final else result.text
            self._write(self._screen, "\r" + text.ljust(self._width) + ("\r" if not text else ""))
            self._width = len(text)
        if result.final and result.text:
            self._write(self._out, result.text + "\n")

    @staticmethod
    def _write(file: TextIO, text: str) -> None:
        file.write(text)
        file.flush()


def is_screen(file: TextIO) -> bool:
    """Whether somebody looks at it."""
    try:
        return file.isatty()
    except (ValueError, io.UnsupportedOperation):
        return False
