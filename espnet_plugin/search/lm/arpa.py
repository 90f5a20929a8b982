"""N-gram language models in ARPA format: a reader, strict about damaged files, and a writer.

The format (D. Paul's, as written by SRILM, KenLM and kaldingram): a ``\\data\\`` header with the
number of n-grams of every order, one section ``\\N-grams:`` per order with lines "log10 p, n words,
log10 back-off weight (optional)", and a closing ``\\end\\``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.text_lines import SPACES, fields, read_lines

LOG_10 = math.log(10.0)
# SRILM and others write -99 for "never" (the probability of <s>).
NEVER = -99.0
Section = dict[tuple[str, ...], tuple[float, float]]


@dataclass(frozen=True)
class ArpaNgrams:
    """All n-grams: ``grams[n-1]`` maps n words to (log p, log back-off weight), natural logs."""

    grams: tuple[Section, ...]


def read_arpa_ngrams(path: str | Path) -> ArpaNgrams:
    """Read an ARPA file, plain or gzipped.

    Raises:
        ValueError: There is no such file, or it is not ARPA, is cut off, has no ``\\end\\``, or
            holds other numbers of n-grams than its header announces; file and line are named.
    """
    return _Reader(Path(path)).read()


def format_arpa(ngrams: ArpaNgrams) -> str:
    """The text of an ARPA file, with all digits of the numbers."""
    lines = ["\\data\\"]
    lines += [f"ngram {n}={len(section)}" for n, section in enumerate(ngrams.grams, 1)]
    for order, section in enumerate(ngrams.grams, 1):
        lines += ["", f"\\{order}-grams:"]
        for words, (log_prob, backoff) in section.items():
            ten = NEVER if log_prob == -math.inf else log_prob / LOG_10
            weight = f"\t{backoff / LOG_10!r}" if order < len(ngrams.grams) else ""
            lines.append(f"{ten!r}\t{' '.join(words)}{weight}")
    return "\n".join([*lines, "", "\\end\\", ""])


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        lines = read_lines(path, "give the name of an ARPA file")
        self._lines = enumerate((line.strip(SPACES) for line in lines), 1)
        self._number = 0

    def _error(self, what: str) -> ValueError:
        return ValueError(f"{self._path}, line {self._number}: {what}")

    def _next(self, wanted: str) -> str:
        """The next line that is not empty."""
        for number, line in self._lines:
            self._number = number
            if line:
                return line
        raise self._error(f"the file ends here, {wanted} is missing: it was cut off")

    def read(self) -> ArpaNgrams:
        while (line := self._next("the \\data\\ header")) != "\\data\\":
            if re.fullmatch(r"\\\d+-grams:", line):
                raise self._error("n-grams before the \\data\\ header: not an ARPA file")
        counts: dict[int, int] = {}
        header = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)")  # SRILM pads with spaces
        while match := header.fullmatch(line := self._next("\\1-grams:")):
            counts[int(match[1])] = int(match[2])
        if not counts or sorted(counts) != list(range(1, len(counts) + 1)):
            raise self._error(f"the header announces the orders {sorted(counts)}, not 1, 2, ...")
        grams: list[Section] = []
        for order in range(1, len(counts) + 1):
            if line != f"\\{order}-grams:":
                raise self._error(f"expected \\{order}-grams:, found {line!r}")
            section, line = self._section(order, grams[0] if grams else None)
            if len(section) != counts[order]:
                raise self._error(
                    f"{len(section)} different {order}-grams, the header announces "
                    f"{counts[order]}: the file is damaged or was cut off"
                )
            grams.append(section)
        if line != "\\end\\":
            raise self._error(f"expected \\end\\, found {line!r}")
        return ArpaNgrams(tuple(grams))

    def _section(self, order: int, unigrams: Section | None) -> tuple[Section, str]:
        """All n-grams of one order, and the line that ended them."""
        section: Section = {}
        while not (line := self._next("\\end\\")).startswith("\\"):
            columns = fields(line)
            if len(columns) not in (order + 1, order + 2):
                raise self._error(f"expected {order} words and one or two numbers: {line!r}")
            try:
                log_prob = float(columns[0])
                backoff = float(columns[order + 1]) if len(columns) > order + 1 else 0.0
            except ValueError:
                raise self._error(f"not a number in {line!r}") from None
            words = tuple(columns[1 : order + 1])
            if unigrams is not None and any((word,) not in unigrams for word in words):
                raise self._error(f"a word without a 1-gram in {line!r}")
            natural = -math.inf if log_prob <= NEVER else log_prob * LOG_10
            section[words] = natural, backoff * LOG_10
        return section, line
