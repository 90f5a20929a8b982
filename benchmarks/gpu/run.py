"""The GPU campaign: everything that is worth knowing about a GPU, in one command and one go.

    python benchmarks/gpu/run.py --out DIR                       # on a GPU, about 8 minutes
    python benchmarks/gpu/run.py --out DIR --device cpu --tiny   # its rehearsal

Sections (README.md): a ceilings, b correctness, c losses, d training steps, e search, f AN4. Each
is a process of its own with a time budget, so that none can stop the next; each writes
DIR/<letter>.json as it goes. DIR/tables.md holds all tables, DIR/log.txt everything that was
printed; the tables are printed once more at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: letter -> (script, share of the budget, what may run longer before it is killed)
SECTIONS = {
    "a": ("ceilings.py", 0.04),
    "b": ("correctness.py", 0.12),
    "c": ("losses.py", 0.18),
    "d": ("steps.py", 0.30),
    "e": ("search.py", 0.12),
    "f": ("an4.py", 0.24),
}
GRACE_SECONDS = 20.0
#: Characters of tables printed at the end; what asks for them may show only so many.
SHOWN = 11000


def run_section(letter: str, args: argparse.Namespace, budget: float, log: Path) -> str:
    """Run one section to its end or its time; returns how it ended."""
    command = [sys.executable, str(HERE / SECTIONS[letter][0]), "--out", str(args.out)]
    command += ["--device", args.device, "--budget", f"{budget:.0f}", *(["--tiny"] * args.tiny)]
    command += ["--only", args.only]
    print(f"== section {letter}: {' '.join(command[1:])}", flush=True)
    begun = time.monotonic()
    with log.open("ab") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        try:
            status = child.wait(budget + GRACE_SECONDS)
            ended = "finished" if status == 0 else f"ended with status {status}"
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            ended = "killed: it ran past its time"
    text = f"section {letter} {ended} after {time.monotonic() - begun:.0f} s"
    print(text, flush=True)
    return text


def tables(out: Path, endings: list[str]) -> str:
    """All tables as Markdown."""
    from common import markdown

    parts = []
    for letter in SECTIONS:
        path = out / f"{letter}.json"
        if not path.is_file():
            continue
        data = json.loads(path.read_text())
        parts.append(f"## {letter}. {data['title']}\n")
        for name, rows in data["tables"].items():
            parts.append(f"**{name}**\n\n{markdown(rows)}\n")
        parts += [f"- {note}\n" for note in data["notes"]]
    parts.append("## How the sections ended\n\n" + "\n".join(f"- {text}" for text in endings))
    return "\n".join(parts) + "\n"


def shorten(text: str) -> str:
    """At most `SHOWN` characters: rows of checks that passed go first."""
    lines = [line for line in text.splitlines() if not line.rstrip().endswith("| True |")]
    short = "\n".join(lines)
    return short if len(short) <= SHOWN else "(the beginning is in tables.md)\n" + short[-SHOWN:]


def main() -> int:
    """Run the campaign; returns 0 if every section finished."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes for a rehearsal")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="such as a,b,c")
    parser.add_argument("--budget", type=float, default=500.0, help="seconds for all")
    parser.add_argument(
        "--only", default="", help="d:compile,...: of these sections, pieces with such names alone"
    )
    args = parser.parse_args()
    wanted = [letter for letter in args.sections.split(",") if letter]
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"--sections: no section {sorted(unknown)}; there are {', '.join(SECTIONS)}")
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(HERE))
    log = args.out / "log.txt"
    for letter in wanted:
        (args.out / f"{letter}.json").unlink(missing_ok=True)
    from background import Background

    end = time.monotonic() + args.budget
    endings: list[str] = []
    jobs = Background("c" in wanted, "f" in wanted and "f:step" not in args.only, log)
    for number, letter in enumerate(wanted):
        # What earlier sections left over goes to later ones, in proportion.
        share = SECTIONS[letter][1] / sum(SECTIONS[later][1] for later in wanted[number:])
        budget = max(1.0, (end - time.monotonic()) * share)
        endings.append(run_section(letter, args, budget, log))
        (args.out / "tables.md").write_text(tables(args.out, endings))
    jobs.stop()
    print(shorten((args.out / "tables.md").read_text()))
    return 0 if all("finished" in text for text in endings) else 1


if __name__ == "__main__":
    sys.exit(main())
