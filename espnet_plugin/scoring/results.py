"""RESULTS.md, in the format of ESPnet's ``show_asr_result.sh``."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from espnet_plugin import __version__
from espnet_plugin.scoring.dump import rates
from espnet_plugin.scoring.edit_distance import Counts

UNITS = ("WER", "CER", "TER")
_HEADER = "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n|---|---|---|---|---|---|---|---|---|\n"


def results_table(rows: Mapping[str, Counts]) -> str:
    """Return one table: a row per data set, rates in per cent."""
    lines = []
    for name, counts in rows.items():
        numbers = "|".join(f"{rate:.1f}" for rate in rates(counts))
        lines.append(f"|{name}|{counts.sentences}|{counts.tokens}|{numbers}|\n")
    return _HEADER + "".join(lines)


def environment() -> str:
    """Return the block of ESPnet's RESULTS.md that says where the numbers were made."""
    date = datetime.datetime.now().astimezone().strftime("%a %b %e %H:%M:%S %Z %Y")
    lines = [
        f"- date: `{date}`",
        f"- python version: `{platform.python_version()}`",
        f"- espnet version: `espnet {_version('espnet')}`",
        f"- pytorch version: `pytorch {_version('torch')}`",
        f"- espnet-progressive version: `{__version__}`",
        f"- Git hash: `{_git('rev-parse', 'HEAD')}`",
        f"  - Commit date: `{_git('log', '-1', '--format=%cd')}`",
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Results:
    """What is said about one experiment.

    Attributes:
        title: its heading.
        tables: {"WER": {"full_sum_beam8/test": counts}, ...}
        notes: Markdown lines below the tables.
    """

    title: str
    tables: Mapping[str, Mapping[str, Counts]]
    notes: Sequence[str] = ()


def results_markdown(experiments: Sequence[Results], notes: Sequence[str] = ()) -> str:
    """Return RESULTS.md: the environment, each experiment, and notes on all of them."""
    parts = ["# RESULTS\n", "## Environments\n" + environment()]
    for experiment in experiments:
        parts.append(f"## {experiment.title}")
        for unit in UNITS:
            if experiment.tables.get(unit):
                parts.append(f"### {unit}\n\n" + results_table(experiment.tables[unit]))
        parts += experiment.notes
    parts += ["## Comparison", "", *notes] if notes else []
    return "\n".join(parts).rstrip() + "\n"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
