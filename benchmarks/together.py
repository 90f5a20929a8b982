"""The same loss in several processes at once: what `loss.py --twice` prints."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def wait_and_time(step: Callable[[], tuple[float, float]], repeats: int) -> None:
    """One of the processes: warm up, say so, begin when told to, print the times."""
    step()
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps([step() for _ in range(repeats)]), flush=True)


def run_together(arguments: list[str], processes: int) -> tuple[float, float]:
    """Median wall-clock and CPU seconds of a step in processes that begin together."""
    command = [sys.executable, str(Path(__file__).with_name("loss.py")), *arguments]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    times = [pair for process in running for pair in json.loads(process.communicate()[0])]
    return statistics.median(w for w, _ in times), statistics.median(c for _, c in times)


def report_together(arguments: list[str], names: list[str]) -> None:
    """Print a table: a step alone, and beside another process that does the same."""
    print("| loss | alone, wall s (CPU s) | run twice | wall, twice / alone | load |")
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        options = [*arguments, "--one_together", name]
        alone, twice = run_together(options, 1), run_together(options, 2)
        again = run_together(options, 1)  # the rest of the machine may have changed its mind
        wall, cpu = (statistics.mean(pair) for pair in zip(alone, again, strict=True))
        print(
            f"| {name} | {wall:.2f} ({cpu:.2f}) | {twice[0]:.2f} ({twice[1]:.2f}) | "
            f"{twice[0] / wall:.2f} | {os.getloadavg()[0]:.1f} |",
            flush=True,
        )
