"""Disks that are full or read-only, and Ctrl-C, made up for the programs of one test."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PROTECTED: list[str] = []
_INSTALLED: list[bool] = []
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink"}


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may have more than ``room`` bytes, in child processes neither.

    The operating system's limit on file sizes: every write beyond it fails as on a full disk, in
    libraries of C as well, with ``File too large`` in place of ``No space left on device``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """What Python writes in ``folder`` fails as on a disk mounted read-only; for root, too."""
    if not _INSTALLED:
        sys.addaudithook(_refuse)  # there is no removing it
        _INSTALLED.append(True)
    _PROTECTED.append(str(folder))
    try:
        yield
    finally:
        _PROTECTED.remove(str(folder))


def heed_ctrl_c() -> None:
    """A ``preexec_fn``: what a shell starts in the background ignores SIGINT, tests as well."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _PROTECTED:
        return
    writes = event in _CHANGES
    if event == "open":
        writes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    paths = arguments[:2] if event in ("os.rename", "os.link", "os.symlink") else arguments[:1]
    for path in paths:
        if writes and isinstance(path, str | os.PathLike):
            name = os.path.abspath(os.fspath(path))
            if any(name == place or name.startswith(f"{place}/") for place in _PROTECTED):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)
