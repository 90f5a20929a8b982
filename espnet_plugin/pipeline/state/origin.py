"""What a folder of results was made from, so that another model's are not added to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.pipeline.state.fingerprint import hash_file, relevant_options

FILE = "made_from.json"

#: What was asked for -> its value; of a file ``{"file": path, "content": hash}``.
Origin = dict[str, Any]


class OtherOrigin(ValueError):
    """A folder holds results of something else."""


def origin_of(options: Mapping[str, Any], files: Mapping[str, Path]) -> Origin:
    """The origin that a program's options describe, without those that cannot change results.

    Args:
        files: name -> a file whose content counts, wherever it lies.

    Raises:
        ValueError: a file is missing.
    """
    shown = {k: _plain(v) for k, v in relevant_options(options).items() if k not in files}
    named = {k: {"file": str(path), "content": hash_file(path)} for k, path in files.items()}
    return {**shown, **named}


def content_of(files: Iterable[Path]) -> str:
    """One hash of several files, for an `Origin`.

    Raises:
        ValueError: a file is missing.
    """
    return hashlib.sha256("".join(hash_file(path) for path in files).encode()).hexdigest()


def require_origin(folder: Path, origin: Origin, results: Iterable[str]) -> None:
    """Let a folder be filled, or gone on with, only by what it was begun with.

    Args:
        results: names of the files that would be added to.

    Raises:
        OtherOrigin: it holds results of another origin; the message names what differs.
    """
    path = folder / FILE
    origin = json.loads(json.dumps(origin))  # as it will be read back
    known = _read(path)
    if known == origin:
        return
    if any(_holds_something(folder / name) for name in results):
        if known is None:
            differing = f"of a run that left no {FILE}"
        else:
            names = sorted(k for k in {*known, *origin} if _differ(known.get(k), origin.get(k)))
            if not names:
                return  # the same files in another place
            pairs = [(name, known.get(name), origin.get(name)) for name in names]
            said = [f"{name} {_said(a, b)}, not {_said(b, a)}" for name, a, b in pairs]
            differing = f"made with {'; '.join(said)}"
        raise OtherOrigin(
            f"{folder}: holds results {differing}. They are not mixed: give another --output_dir, "
            "or move this folder away"
        )
    write_atomically(path, json.dumps(origin, indent=1) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _read(path: Path) -> Origin | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _holds_something(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _differ(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return bool(one.get("content") != other.get("content"))
    return bool(one != other)


def _said(value: Any, other: Any) -> str:
    if isinstance(value, list) and isinstance(other, list):
        value = " ".join(str(item) for item in value if item not in other) or "(others)"
    if isinstance(value, dict):
        return f"{value.get('file')} ({str(value.get('content'))[:8]})"
    return str(value)
