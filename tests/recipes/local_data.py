"""Calling a recipe's local/data.py as its data.sh does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def run_data_py(corpus: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``egs2/<corpus>/asr1/local/data.py``; what it says is in the result."""
    return subprocess.run(
        [sys.executable, "local/data.py", *map(str, arguments)],
        cwd=REPO / "egs2" / corpus / "asr1",
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
