"""What a finished step has left, so that a file cut off or changed afterwards is noticed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_plugin.pipeline.state.fingerprint import hash_file

#: File name -> its size in bytes and the SHA-256 of its content.
Products = dict[str, list[int | str]]


def products_of(folder: Path, names: Iterable[str]) -> Products:
    """What lies in ``folder`` now.

    Raises:
        ValueError: a file is missing.
    """
    return {name: [_size(folder / name), hash_file(folder / name)] for name in names}


def damage(folder: Path, names: Iterable[str], known: Mapping[str, list[int | str]]) -> list[str]:
    """What is wrong with a finished step's files, in words that follow ``and now``.

    Only sizes are looked at: contents may be gigabytes, and disks and copies cut files off.

    Args:
        known: what `products_of` said when it was finished; nothing of steps of earlier versions.
    """
    found = []
    for name in names:
        path = folder / name
        if not path.exists():
            found.append(f"{name} is gone")
        elif name in known and _size(path) != known[name][0]:
            found.append(f"{name} has {_size(path)} bytes instead of {known[name][0]}")
    return found


def remove(folder: Path, names: Iterable[str]) -> None:
    """Make way for these files to be made again; jobs do so from the parts that they kept."""
    for name in (*names, "done"):
        (folder / name).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size
