"""Whether a disk has room for what is about to be written."""

from __future__ import annotations

import shutil
from pathlib import Path


def require_space(directory: Path, needed: int, purpose: str) -> None:
    """Check that `needed` bytes fit on the disk of `directory`, which need not exist yet.

    Raises:
        ValueError: they do not; the message names the purpose, both sizes and what to do.
    """
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ValueError(
            f"{directory}: the {purpose} needs {gigabytes(needed)}, and only {gigabytes(free)} are "
            "free there; free some, or choose a folder on another disk"
        )


def gigabytes(size: float) -> str:
    """``6387309499`` -> ``6.39 GB`` (10^9 bytes)."""
    return f"{size / 1e9:.2f} GB"
