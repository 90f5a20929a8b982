"""Files that are whole or not there at all."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from espnet_plugin.corpora.faults import naming


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers and kills see the old content or the new one."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes, durable: bool = True) -> None:
    """The same for any file.

    Args:
        durable: whether it has to survive a power failure the moment after, which takes
            milliseconds; not for thousands of small files.

    Raises:
        OSError: with the file's name; nothing new is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[-50:]}.{os.getpid()}.tmp")
    with naming(path):
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    if durable:
        _sync_folder(path.parent)


def save_atomically(path: Path, save: Callable[[BinaryIO], object]) -> None:
    """The same for what writes itself into a stream, as ``torch.save`` does."""
    stream = io.BytesIO()
    save(stream)
    write_bytes_atomically(path, stream.getvalue())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
