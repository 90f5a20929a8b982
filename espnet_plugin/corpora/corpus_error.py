"""Everything that is wrong with a copy of a corpus, told at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_SHOWN = 50


class CorpusError(ValueError):
    """One message with a line for each problem; each line names its file and the remedy."""

    def __init__(self, root: Path, corpus: str, problems: Sequence[str]) -> None:
        """Put the first problems into the message, and count the rest."""
        self.problems = tuple(problems)
        shown = list(problems[:_SHOWN])
        if len(problems) > len(shown):
            shown.append(f"... and {len(problems) - len(shown)} more")
        lines = "".join(f"\n  {problem}" for problem in shown)
        super().__init__(f"{root}: {len(problems)} problem(s) with {corpus}:{lines}")
