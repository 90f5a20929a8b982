"""The progress bar: seconds of audio, silences included once a file is finished."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.transcription.progress import Progress


class Terminal(io.StringIO):
    """A stderr that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name, seconds in (("a.wav", 3), ("b.wav", 7)):
        soundfile.write(tmp_path / name, np.zeros(1000 * seconds, "f4"), 1000)
    (tmp_path / "c.wav").write_text("no audio")
    return [tmp_path / name for name in ("a.wav", "b.wav", "c.wav")]


def test_it_reaches_the_end_whatever_was_silent(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress(files) as progress:
        assert progress.total == 10.0
        progress.pieces(2.0)  # a second of the first file was silent
        progress.finished(files[0])
        progress.pieces(30.0)  # more than there is, as overlapping windows count twice
        logging.warning("a line of the log")
        for path in files[1:]:
            progress.finished(path)
    shown = screen.getvalue().replace("\r", "\n").splitlines()
    assert "100% |" in shown[-1] and "10/10 s" in shown[-1]


@pytest.mark.parametrize(("stream", "show"), [(io.StringIO, True), (Terminal, False)])
def test_nothing_is_drawn_without_a_terminal_or_when_quiet(
    files: list[Path], stream: type[io.StringIO], show: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = stream()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress(files, show=show) as progress:
        progress.pieces(2.0)
        progress.finished(files[0])
    assert screen.getvalue() == ""
