"""Kaldi's tables: one line per utterance, ``id value``, sorted by id."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from espnet_plugin.corpora.text_lines import fields, read_lines

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
    for number, line in enumerate(read_lines(path, "run the data preparation first"), 1):
        # ESPnet drops any white space at the ends of a line
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


def read_tokens(path: Path) -> dict[str, list[str]]:
    """Read a table whose values are words or tokens; see `read_table`."""
    return {key: fields(value) for key, value in read_table(path).items()}


def read_integers(path: Path) -> dict[str, list[int]]:
    """Read a table of integers (ESPnet's ``text_int``).

    Raises:
        ValueError: see `read_table`; or a value that is not an integer.
    """
    table = {}
    for key, value in read_table(path).items():
        try:
            table[key] = [int(token) for token in fields(value)]
        except ValueError:
            raise ValueError(f"{path}: utterance {key}: not integers: {value[:80]!r}") from None
    return table
