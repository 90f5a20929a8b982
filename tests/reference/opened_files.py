"""Which files a piece of code opens, however it does: Python tells its audit hooks."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_listening: list[set[Path]] = []


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _listening and event in ("open", "os.listdir", "os.scandir"):
        name = arguments[0]
        if isinstance(name, str | bytes | os.PathLike):
            path = Path(os.path.abspath(os.fsdecode(name)))
            # names relative to another folder than the current one come along, and lead nowhere
            for opened in _listening if os.path.lexists(path) else ():
                opened.add(path)


_installed = False


@contextlib.contextmanager
def opened_files() -> Iterator[set[Path]]:
    """Absolute paths of all files and folders that are opened meanwhile, in any thread."""
    global _installed
    if not _installed:  # a hook stays for the life of the process
        sys.addaudithook(_heard)
        _installed = True
    opened: set[Path] = set()
    _listening.append(opened)
    try:
        yield opened
    finally:
        _listening.remove(opened)
