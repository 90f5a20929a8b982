"""Tables of benchmarks/RESULTS_gpu.md from recorded results (benchmarks/gpu/results).

    python benchmarks/gpu/render.py 2026-11-27_h100_1 c losses

prints one table of one section; without a table's name, the names that there are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from common import markdown

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    """Print a table; returns 2 for one that does not exist."""
    if len(sys.argv) < 3:
        print(__doc__)
        return 2
    run, letter, *names = sys.argv[1:]
    tables = json.loads((RESULTS / run / f"{letter}.json").read_text(encoding="utf-8"))["tables"]
    if not names:
        print("\n".join(tables))
    for name in names:
        if name not in tables:
            print(f"no table {name!r}; there are {', '.join(tables)}", file=sys.stderr)
            return 2
        print(markdown(tables[name]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
