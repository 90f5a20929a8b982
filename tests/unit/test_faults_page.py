"""docs/faults.md: every fault says what to do and names its tests, which exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
#: What the page has to know, at least.
FAULTS = (
    *("noexec", "too long for a socket", "full, while data is prepared", "full, while a stage"),
    *("read-only", "killed", "Ctrl-C", "reused process ids", "checkpoint.pth", "ave.pth"),
    *("N-best lists cut off", "--nj", "Unicode, long paths", "change while they are read"),
    *("other options or model", "`rescore` with other", "`tune-scales`, other model"),
)


def rows() -> list[list[str]]:
    """Cells of the faults' rows."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] not in ("fault", "---")]


def listed() -> dict[str, list[tuple[str, str]]]:
    """Number -> files and names of its tests."""
    text = PAGE.split("\n## The tests\n")[1]
    items = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", text, re.M | re.S)
    return {number: re.findall(r"`(\S+\.py)::(\w+)`", body) for number, body in items}


def test_every_fault_of_the_page_has_a_remedy_and_tests_that_exist() -> None:
    tests = listed()
    assert len(rows()) >= 30
    for row in rows():
        assert len(row) == 4 and all(row), row
        named = tests[row[3]]
        assert named, row
        for file, name in named:
            source = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", source, re.M), (file, name)
    assert {row[3] for row in rows()} == set(tests), "a test that no fault names"


def test_the_page_knows_every_fault_that_was_asked_for() -> None:
    table = "\n".join(" | ".join(row) for row in rows())
    assert [fault for fault in FAULTS if fault not in table] == []
