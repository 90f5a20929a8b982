"""``alignment.realign``: after which stages the data are aligned anew, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FOLDER = "realignment"


def realignments(alignment: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The entries of ``realign``, one mapping or a list of them, each with ``after: STAGE``.

    Raises:
        ValueError: an entry is no mapping or names no stage, or two name the same one.
    """
    given = alignment.get("realign")
    if not given:
        return ()
    entries = tuple(given) if isinstance(given, list | tuple) else (given,)
    for entry in entries:
        if not isinstance(entry, Mapping) or not entry.get("after"):
            raise ValueError(
                "alignment.realign must be {after: STAGE, ...} or a list of such mappings, got "
                f"{entry!r}"
            )
    after = [entry["after"] for entry in entries]
    if len(set(after)) < len(after):
        raise ValueError(f"alignment.realign names a stage twice: {', '.join(map(str, after))}")
    return entries


def is_realignment(folder: str) -> bool:
    """Whether a step's folder holds a re-alignment."""
    return folder == FOLDER or folder.startswith(f"{FOLDER}_")


def entry_after(alignment: Mapping[str, Any], stage: str | None) -> Mapping[str, Any] | None:
    """The entry that aligns anew after a stage, if there is one."""
    return next((entry for entry in realignments(alignment) if entry["after"] == stage), None)
