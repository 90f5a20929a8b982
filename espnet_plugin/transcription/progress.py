"""A progress bar over seconds of audio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import soundfile
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class Progress:
    """How far a run over files has come, with the time left; on terminals only.

    Args:
        paths: all files of the run; those that cannot be read count nothing.
        show: False draws nothing.

    Attributes:
        total: seconds of audio.
    """

    def __init__(self, paths: Sequence[Path], show: bool = True) -> None:
        self._seconds = {path: _seconds(path) for path in paths}
        self.total = sum(self._seconds.values())
        # disable=None: not where stderr is no terminal
        self._bar = tqdm(
            total=round(self.total, 1),
            unit="s",
            desc="audio",
            disable=None if show else True,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s, {remaining} left",
        )
        self._done = 0.0
        self._redirect = logging_redirect_tqdm()  # log lines above the bar, not across it

    def __enter__(self) -> Progress:
        self._redirect.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._redirect.__exit__(*reason)
        self._bar.close()

    def pieces(self, seconds: float) -> None:
        """Pieces of this length are recognised."""
        self._bar.update(min(seconds, self.total - self._bar.n))

    def finished(self, path: Path) -> None:
        """A file is: its silences count from now on too."""
        self._done += self._seconds[path]
        self._bar.update(max(0.0, self._done - self._bar.n))


def _seconds(path: Path) -> float:
    try:
        return float(soundfile.info(str(path)).duration)
    except (soundfile.SoundFileError, OSError, RuntimeError):
        return 0.0
