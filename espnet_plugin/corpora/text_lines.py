"""Text files that users give: their lines, and the fields of a line.

Kaldi's tables, ARPA, STM, CTM, lexica and token lists are separated by ASCII white space. Python's
`str.split` also cuts at no-break and ideographic spaces, and `str.splitlines` at ten further
characters, all of which may stand inside a word. A byte order mark is no part of the text.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

SPACES = " \t\n\r\f\v"

_FIELD = re.compile(f"[^{SPACES}]+")
_ASCII_ODD = re.compile("[\x1c-\x1f]")  # where str.split cuts ASCII text and no format does
_BOM = "\ufeff"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16


def fields(text: str) -> list[str]:
    """What stands between ASCII white space."""
    if text.isascii() and not _ASCII_ODD.search(text):
        return text.split()  # several times as fast
    return _FIELD.findall(text)


def single_spaced(text: str) -> str:
    """The fields with one space between them."""
    return " ".join(fields(text))


def read_lines(path: Path, remedy: str = "run the step that makes it first") -> Iterator[str]:
    """Lines of a UTF-8 text without their ends, one by one; a file called ``*.gz`` is unpacked.

    Args:
        remedy: what to do if there is no such file.

    Raises:
        ValueError: there is no such file, or it is a folder, damaged or not UTF-8.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield _decoded(line, number, path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; {remedy}") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a folder, where a file was expected") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error}); copy it again") from error


def _decoded(line: bytes, number: int, path: Path) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        if number == 1 and line.startswith(_WIDE_BOMS):
            raise ValueError(f"{path}: UTF-16 text; `iconv -f UTF-16 -t UTF-8` it") from None
        raise ValueError(
            f"{path}:{number}: not UTF-8 text ({error.reason} at byte {error.start}); convert it "
            "with iconv"
        ) from None
    return (text.removeprefix(_BOM) if number == 1 else text).rstrip("\r\n")
