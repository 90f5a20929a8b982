"""The GPU campaign runs, section by section, at its rehearsal's size on this machine's CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
CAMPAIGN = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"


def run(out: Path, *options: str) -> str:
    command = [sys.executable, str(CAMPAIGN / "run.py"), "--out", str(out), "--device", "cpu"]
    result = subprocess.run(
        [*command, "--tiny", *options], capture_output=True, text=True, check=False
    )
    log = (out / "log.txt").read_text() if (out / "log.txt").exists() else ""
    assert result.returncode == 0, result.stdout + result.stderr + log[-3000:]
    return result.stdout


def test_sections_without_espnet_and_their_tables(tmp_path: Path) -> None:
    shown = run(tmp_path, "--sections", "a,b,c,e", "--budget", "400", "--only", "e:search")
    tables = {
        letter: json.loads((tmp_path / f"{letter}.json").read_text())["tables"] for letter in "abce"
    }
    assert {row["what"] for row in tables["a"]["ceilings"]} >= {"copy", "bf16", "fp32"}
    assert tables["b"]["summary"][0]["failed"] == 0 and tables["b"]["summary"][0]["passed"] > 100
    assert {row["dtype"] for row in tables["c"]["losses"]} == {"bf16", "fp32", "tf32"}
    assert not any("failed" in tables[letter] for letter in "abce")
    assert "How the sections ended" in shown
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.json", "b.json", "c.json", "e.json", "log.txt", "tables.md",
    ]  # fmt: skip


def test_training_steps_and_their_hours(tmp_path: Path) -> None:
    """Sections with ESPnet; of AN4's the timed step, no training."""
    run(tmp_path, "--sections", "d,f", "--budget", "240", "--only", "d:960 h bf16,f:step")
    steps, an4 = (
        json.loads((tmp_path / f"{letter}.json").read_text())["tables"] for letter in "df"
    )
    assert [row["stage"] for row in steps["steps"]] == ["align", "viterbi", "full_sum", "mbr"]
    assert all(row["error"] is None and row["step_ms"] > 0 for row in steps["steps"])
    assert steps["hours"][0]["all"] > 0 and "failed" not in steps
    assert an4["step"][0]["step_ms"] > 0 and "failed" not in an4
    assert an4["left out"][0]["what"] == "training"


def test_a_section_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    """No time at all for the first: what it leaves out is named, and the next one runs."""
    command = [sys.executable, str(CAMPAIGN / "correctness.py"), "--out", str(tmp_path)]
    subprocess.run([*command, "--device", "cpu", "--budget", "0"], check=True)
    left = json.loads((tmp_path / "b.json").read_text())["tables"]["left out"]
    assert [row["what"] for row in left][:2] == ["grid losses", "fused losses"]
    unknown = subprocess.run(
        [sys.executable, str(CAMPAIGN / "run.py"), "--out", str(tmp_path), "--sections", "x"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert unknown.returncode == 2 and "no section ['x']" in unknown.stderr
