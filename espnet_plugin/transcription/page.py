"""A web page that transcribes what is recorded or uploaded; needs gradio (the extra ``demo``).

Files are written below the folder that is given to `Page`, a folder for each recording, since the
page may be open in several browsers.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.transcription.audio import Track
from espnet_plugin.transcription.formats import FORMATS, Transcript
from espnet_plugin.transcription.transcriber import Transcriber

#: Formats to download, with what their buttons say.
DOWNLOADS = {"srt": "SRT", "vtt": "WebVTT", "txt": "Text", "json": "JSON", "ctm": "CTM"}
_COLUMNS = ("word", "start (s)", "end (s)", "confidence")


@dataclass(frozen=True)
class Answer:
    """What the page shows of a recording.

    Attributes:
        text: a line per piece.
        status: how much audio it was and how long it took.
        columns, rows: the table of words; times in seconds with two digits.
        files: paths in the order of `DOWNLOADS`.
    """

    text: str
    status: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    files: list[str]


def table(transcript: Transcript) -> tuple[tuple[str, ...], list[list[str]]]:
    """Columns and rows of all words in the order of time; with the channel if there are several."""
    several = len(transcript.tracks) > 1
    words = [(word.start, str(t.channel), word) for t in transcript.tracks for word in t.words]
    words.sort(key=lambda item: item[:2])
    rows = []
    for _, channel, word in words:
        known = "" if word.confidence is None else f"{word.confidence:.2f}"
        row = [word.text, f"{word.start:.2f}", f"{word.end:.2f}", known]
        rows.append([channel, *row] if several else row)
    return (("channel", *_COLUMNS) if several else _COLUMNS), rows


class Page:
    """Answers what the page asks.

    Args:
        transcriber: the model.
        folder: for the files to download; it must exist.
    """

    def __init__(self, transcriber: Transcriber, folder: Path) -> None:
        self._transcriber, self._folder = transcriber, folder

    @property
    def model(self) -> str:
        """The name of the model: that of its file or folder."""
        return Path(self._transcriber.model).name

    def warm_up(self) -> None:
        """Do once, on silence, what is slow for the first recording only: imports, allocations."""
        rate = self._transcriber.rate
        silence = np.zeros(rate, np.float32)
        self._transcriber.cutting.spans(Track(silence, rate))
        self._transcriber.recognise([silence])

    def answer(self, recording: str | None) -> Answer:
        """Transcribe a file that the browser sent.

        Raises:
            ValueError: there is none, or it cannot be read or recognised.
        """
        if recording is None:
            raise ValueError("there is no recording; record or upload one first")
        path, started = Path(recording), time.perf_counter()
        try:
            transcript = self._transcriber.transcribe(path)
        except ValueError as error:
            # The user knows the file's name, not where the server keeps it.
            raise ValueError(str(error).replace(str(path), path.name)) from error
        took = time.perf_counter() - started
        seconds = max(track.seconds for track in transcript.tracks)
        columns, rows = table(transcript)
        status = f"{seconds:.1f} s of audio, transcribed in {took:.1f} s"
        return Answer(
            FORMATS["txt"](transcript).rstrip("\n"),
            status if rows else f"{status}: no speech was found in it",
            columns,
            rows,
            self._files(transcript),
        )

    def _files(self, transcript: Transcript) -> list[str]:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        paths = []
        for ending in DOWNLOADS:
            path = folder / f"{transcript.name}.{ending}"
            path.write_text(FORMATS[ending](transcript), encoding="utf-8")
            paths.append(str(path))
        return paths


def require_gradio() -> None:
    """Look for gradio.

    Raises:
        ImportError: it is not there.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("the page needs gradio: pip install 'espnet-progressive[demo]'")


def free_port(host: str, port: int) -> int:
    """Make sure that a port can be listened on.

    Args:
        host: name or address of this machine.
        port: 0 stands for any that is free.

    Raises:
        ValueError: the port is taken, reserved or no port, or the host is none of this machine's.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port must be between 0 and 65535, got {port}")
    try:
        address = socket.getaddrinfo(host, port, socket.AF_INET)[0][4]
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"--port {port} is taken: another program listens on it at {host}; end it, give "
                "another port, or 0 for any that is free"
            ) from error
        if error.errno == errno.EACCES:
            raise ValueError(
                f"--port {port}: this user may not listen on it; give one above 1023"
            ) from error
        raise ValueError(
            f"--host {host}: {error.strerror}; give 127.0.0.1 (this machine only), 0.0.0.0 (the "
            "whole network) or an address of this machine"
        ) from error


def launch(transcriber: Transcriber, folder: Path, host: str, port: int, browser: bool) -> Any:
    """Start the server, in a thread of its own.

    Args:
        transcriber: the model.
        folder: for everything that is uploaded and made; the caller removes it.
        host, port: see `free_port`.
        browser: whether to open the page in one.

    Returns:
        gradio's application; its ``close()`` stops the server.

    Raises:
        ValueError: the port was taken in the meantime.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    page = Page(transcriber, folder)
    page.warm_up()
    app, theme = _layout(page)
    try:
        app.launch(
            server_name=host,
            server_port=port,
            inbrowser=browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            theme=theme,
        )
    except OSError as error:
        free_port(host, port)
        raise ValueError(f"--port {port}: {error}") from error
    return app


def _layout(page: Page) -> tuple[Any, Any]:
    """gradio's application and its theme."""
    import gradio

    def answer(recording: str | None) -> list[Any]:
        try:
            found = page.answer(recording)
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from error
        words = {"headers": list(found.columns), "data": found.rows}
        return [found.text, found.status, words, *found.files]

    title = f"espnet-progressive: {page.model}"
    with gradio.Blocks(title=title, analytics_enabled=False) as app:
        gradio.Markdown(f"## {title}")
        recording = gradio.Audio(
            sources=["microphone", "upload"],
            type="filepath",
            label="Speech",
            editable=False,
            buttons=["download"],  # not "share", which would send the recording away
            elem_id="speech",
        )
        status = gradio.Markdown(elem_id="status")
        text = gradio.Textbox(label="Text", lines=3, interactive=False, elem_id="text")
        words = gradio.Dataframe(
            headers=list(_COLUMNS), interactive=False, label="Words", elem_id="words"
        )
        with gradio.Row():
            files = [
                gradio.DownloadButton(label, elem_id=f"download-{ending}")
                for ending, label in DOWNLOADS.items()
            ]
        gradio.on(
            [recording.upload, recording.stop_recording],
            answer,
            inputs=recording,
            outputs=[text, status, words, *files],
            api_name="transcribe",
            concurrency_limit=1,  # the model's working memory is for one recording
        )
    return app, gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
