"""What the campaign's sections share: timing, budgets, and results that are on disk at once."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402


class Section:
    """One section's options, clock and results.

    Results are tables: lists of rows with the same keys. Every row is written to
    ``<out>/<letter>.json`` as soon as it is there, so that a crash loses one row.

    Attributes:
        device: ``cuda`` or ``cpu``.
        tiny: sizes for a rehearsal without a GPU.
        deadline: of `time.monotonic`; what has not begun then is left out and named.
    """

    def __init__(self, letter: str, title: str) -> None:
        parser = argparse.ArgumentParser(description=title)
        parser.add_argument("--out", type=Path, required=True)
        parser.add_argument("--device", default="cuda")
        parser.add_argument("--tiny", action="store_true")
        parser.add_argument("--budget", type=float, default=60.0, help="seconds")
        parser.add_argument("--only", default="", help="d:compile,...: such pieces alone")
        args = parser.parse_args()
        self.letter, self.title = letter, title
        wanted = [word.split(":", 1) for word in args.only.split(",") if word]
        self.only = [word for section, word in wanted if section == letter]
        self.out, self.device, self.tiny = args.out, args.device, args.tiny
        self.begun = time.monotonic()
        self.deadline = self.begun + args.budget
        self.data: dict[str, Any] = {"title": title, "tables": {}, "notes": []}
        self.out.mkdir(parents=True, exist_ok=True)

    @property
    def cuda(self) -> bool:
        """Whether this runs on a GPU."""
        return self.device.startswith("cuda")

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def row(self, table: str, **values: Any) -> None:
        """Add a row to a table, show it, and write the file."""
        self.data["tables"].setdefault(table, []).append(values)
        print(
            f"[{self.letter} {time.monotonic() - self.begun:5.0f} s] {table}: {values}", flush=True
        )
        self.write()

    def note(self, text: str) -> None:
        """Add a remark that belongs under the tables."""
        self.data["notes"].append(text)
        print(f"[{self.letter}] note: {text}", flush=True)
        self.write()

    def write(self) -> None:
        """Write what there is."""
        self.data["seconds"] = round(time.monotonic() - self.begun, 1)
        path = self.out / f"{self.letter}.json"
        partial = path.with_suffix(".tmp")
        partial.write_text(json.dumps(self.data, indent=1))
        partial.replace(path)

    def attempt(self, name: str, work: Callable[[], None], table: str = "failed") -> bool:
        """Run one piece of a section; its failure is a row, never the end of the section."""
        if self.only and not any(word in name for word in self.only):
            return False
        if self.left <= 0:
            self.row("left out", what=name, why="out of time")
            return False
        try:
            work()
            return True
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            traceback.print_exc()
            self.row(table, what=name, error=text)
            return False
        finally:
            gc.collect()
            if self.cuda:
                torch.cuda.empty_cache()

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(
        self, work: Callable[[], Any], repeats: int = 5, warmup: int = 2, at_most: float = 20.0
    ) -> float:
        """Median seconds of ``work`` by device events (a clock on a CPU), after warming up.

        Args:
            at_most: seconds of repeats, however many they are.
        """
        if self.tiny:
            repeats, warmup = min(repeats, 2), min(warmup, 1)
        for _ in range(warmup):
            work()
        self.synchronize()
        times: list[float] = []
        begun = time.monotonic()
        for _ in range(repeats):
            times.append(self._once(work))
            if time.monotonic() - begun > at_most:
                break
        return statistics.median(times)

    def _once(self, work: Callable[[], Any]) -> float:
        if not self.cuda:
            begun = time.perf_counter()
            work()
            return time.perf_counter() - begun
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        work()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) / 1e3

    def peak_bytes(self, work: Callable[[], Any]) -> int | None:
        """Memory that one call needs above what is held before it; None on a CPU."""
        if not self.cuda:
            work()
            return None
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before


def ceilings(out: Path) -> dict[str, float]:
    """What section a measured: operations a second by precision, ``copy`` bytes a second."""
    try:
        rows = json.loads((out / "a.json").read_text())["tables"]["ceilings"]
    except (OSError, ValueError, KeyError):
        return {}
    return {row["what"]: row["rate"] for row in rows}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table of rows; keys of later rows may be missing in earlier ones."""
    keys: list[str] = []
    for row in rows:
        keys += [key for key in row if key not in keys]
    lines = ["| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
    for row in rows:
        lines.append("| " + " | ".join(_cell(row.get(key, "")) for key in keys) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, float):
        return "" if value is None else str(value).replace("|", "/")
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.2e}"
