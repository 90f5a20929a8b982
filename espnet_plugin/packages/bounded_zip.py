"""The directory of a zip file from a stranger, read in bounded memory and time.

Python's `zipfile` reads the directory of an archive at once, and one of four million empty members
fills gigabytes before anybody can count them.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

#: Bytes of a directory; some 40,000 members.
DIRECTORY = 4 << 20


class _BoundedFile(io.FileIO):
    """A file that gives no more than ``DIRECTORY`` bytes at once; members are read in less."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY:
            raise ValueError(f"its directory has more than {DIRECTORY} bytes")
        found = super().read(DIRECTORY + 1 if size is None or size < 0 else size)
        if found is None or len(found) > DIRECTORY:
            raise ValueError(f"its directory has more than {DIRECTORY} bytes")
        return found


@contextlib.contextmanager
def bounded_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file open for reading.

    Raises:
        ValueError: its directory is absurdly large.
        zipfile.BadZipFile: it is no zip file.
    """
    with _BoundedFile(path) as raw, zipfile.ZipFile(raw) as file:
        yield file
