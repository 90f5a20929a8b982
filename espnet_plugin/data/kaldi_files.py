"""Kaldi's tables: one line per utterance, ``id value``, sorted by id."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

LISTED = 10  # ids that a message spells out before it only counts


def some(ids: Iterable[str]) -> str:
    """Name the first ids and count them all: ``a, b, ... (12 in all)``."""
    listed = list(ids)
    shown = ", ".join(listed[:LISTED])
    return shown if len(listed) <= LISTED else f"{shown}, ... ({len(listed)} in all)"


def read_table(path: Path, *, allow_empty: bool = False) -> dict[str, str]:
    """Read a table of ``id value`` lines in the file's order; a line of an id alone has value "".

    Raises:
        ValueError: the file is missing, empty, not UTF-8, or has a blank line or an id twice.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(_lines(path), 1):
        key, _, value = line.strip().replace("\t", " ", 1).partition(" ")
        if not key:
            raise ValueError(f"{path}:{number}: blank line; remove it")
        if key in table:
            raise ValueError(
                f"{path}:{number}: utterance {key} stands there twice; keep one of its lines"
            )
        table[key] = value.strip()
    if not table and not allow_empty:
        raise ValueError(f"{path}: empty; run the data preparation again")
    return table


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the data preparation first") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a folder, where a file was expected") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); convert it with iconv"
        ) from None
    # str.splitlines would also split at characters that may stand inside a transcript
    return text.removesuffix("\n").split("\n") if text else []


def read_tokens(path: Path) -> dict[str, list[str]]:
    """Read a table whose values are words or tokens; see `read_table`."""
    return {key: value.split() for key, value in read_table(path).items()}


def read_integers(path: Path) -> dict[str, list[int]]:
    """Read a table of integers (ESPnet's ``text_int``).

    Raises:
        ValueError: see `read_table`; or a value that is not an integer.
    """
    table = {}
    for key, value in read_table(path).items():
        try:
            table[key] = [int(token) for token in value.split()]
        except ValueError:
            raise ValueError(f"{path}: utterance {key}: not integers: {value[:80]!r}") from None
    return table
