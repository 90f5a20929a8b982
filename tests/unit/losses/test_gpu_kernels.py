"""Every Triton kernel compiles for a Hopper GPU, without one, and keeps its values in registers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "gpu" / "compile_kernels.py"


def _assembler() -> Path | None:
    """The one Triton brings."""
    found = importlib.util.find_spec("triton")
    if found is None or found.origin is None:
        return None
    tool = Path(found.origin).parent / "backends" / "nvidia" / "bin" / "ptxas"
    return tool if tool.exists() else None


@pytest.mark.skipif(_assembler() is None, reason="Triton with its ptxas is not installed")
def test_all_kernels_compile_without_spills() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines()[2:]]
    assert {row[0].split(" ")[0] for row in rows} == {
        "arc_scores", "slopes", "hidden", "backward", "recursion",
    }  # fmt: skip
    for kernel, registers, stack, local, _ in rows:
        assert 0 < int(registers) < 255, kernel
        assert int(stack) == int(local) == 0, f"{kernel} spills"
