"""Where packages are unpacked."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where packages are unpacked: $ESPNET_PROGRESSIVE_CACHE, else below the user's cache."""
    given = os.environ.get("ESPNET_PROGRESSIVE_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "espnet_progressive"
