"""Calling progressive.sh in a folder where `python` only writes down how it was called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

TEMPLATE = Path(__file__).parents[2] / "egs2/TEMPLATE/asr1"
SETS = ["--train_set", "tr", "--valid_set", "dev", "--test_sets", "t1 t2"]


def call(
    recipe: Path,
    *options: str,
    fail_at: str = "nothing",
    everything: bool = False,
    **variables: str,
) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Run progressive.sh; returns the result and the programs called, with their arguments."""
    calls = recipe / "calls"
    calls.unlink(missing_ok=True)
    result = subprocess.run(
        [
            "bash",
            "progressive.sh",
            *options,
            "--python",
            str(recipe / "python"),
            "--preload",
            "false",
        ],
        cwd=recipe,
        capture_output=True,
        text=True,
        env={**os.environ, "FAIL_AT": fail_at, **variables},
    )
    lines = calls.read_text().splitlines() if calls.exists() else []
    programs = [line.removeprefix("-m espnet_plugin ").split() for line in lines]
    # doctor and plan come before everything else and before training; they have their own test
    return result, [p for p in programs if everything or p[0] not in ("doctor", "plan")]


def option(call: list[str], name: str) -> str:
    return call[call.index(name) + 1]
