"""Non-linguistic symbols of transcripts, such as ``<noise>``: one label each, not scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.corpora.text_lines import fields, read_lines, single_spaced
from espnet_plugin.data.token_list import BLANK, SENTENCE_EDGE, UNKNOWN

NO_SYMBOLS = "none"  # ESPnet's word for no file


def read_symbols(path: Path) -> tuple[str, ...]:
    """Read a file of one symbol a line (ESPnet's ``nlsyms_txt``).

    Raises:
        ValueError: no such file, a line of several words, or a label that every model has.
    """
    rows = [fields(line) for line in read_lines(path, "it holds one symbol a line")]
    for number, row in enumerate(rows, 1):
        if len(row) > 1 or set(row) & {BLANK, SENTENCE_EDGE, UNKNOWN, "<space>"}:
            raise ValueError(
                f"{path}:{number}: {' '.join(row)!r} is no symbol: one word a line, and none of "
                f"{BLANK}, {UNKNOWN}, {SENTENCE_EDGE} and <space>, which are labels already"
            )
    return tuple(dict.fromkeys(row[0] for row in rows if row))


def symbols_option(text: str) -> tuple[str, ...]:
    """A list separated by commas, or the name of a file as of `read_symbols`.

    Raises:
        ValueError: see `read_symbols`.
    """
    if Path(text).is_file():
        return read_symbols(Path(text))
    return tuple(dict.fromkeys(fields(text.replace(",", " "))))


def without_symbols(text: str, symbols: Sequence[str]) -> str:
    """The transcript without them."""
    if not symbols:
        return text
    longest_first = sorted(symbols, key=len, reverse=True)
    return single_spaced(re.sub("|".join(map(re.escape, longest_first)), "", text))
