"""CONTRIBUTING's tasks name files that exist, at most four a task; sizes of files and functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from espnet_plugin.bin.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
TASKS = ["add a loss", "add a stage", "add a corpus", "change pruning", "mend resume"]
MOST_FILES = 4
MOST_MODULES = 20  # of a package, at one level
MOST_LINES = 400  # of a file
MOST_LINES_OF_FUNCTION = 50  # without its docstring
#: Functions that may be longer, and why.
LONG = {"_backward_kernel": "a Triton kernel is compiled whole; its halves share every value"}
CODE = ("espnet_plugin", "benchmarks", "egs2", "tests", "docs")


def files_of_tasks() -> dict[str, list[str]]:
    """Task -> the files its rows name; a row with an empty first cell belongs to the task above."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## Five tasks and their rooms\n")[1].split("\n## ")[0]
    tasks: dict[str, list[str]] = {}
    task = ""
    for first, file in re.findall(r"^\| ?([a-z ]*?) ?\| `(.+?)` \|", section, re.M):
        task = first or task
        tasks.setdefault(task, []).append(file)
    return tasks


def test_tasks_name_files_that_exist() -> None:
    files = files_of_tasks()
    assert list(files) == TASKS
    missing = [name for names in files.values() for name in names if not (ROOT / name).is_file()]
    assert not missing


def test_no_task_opens_more_than_four_files() -> None:
    assert all(1 <= len(names) <= MOST_FILES for names in files_of_tasks().values())


def test_names_that_the_tasks_point_to_exist() -> None:
    """What the third column calls by name is defined in the file of its row."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Five tasks and their rooms\n")[1]
    rows = re.findall(r"^\|[a-z ]*\| `(\S+\.py)` \| (.*) \|$", section, re.M)
    pairs = [(file, name) for file, cell in rows for name in re.findall(r"`([A-Za-z_]+)`", cell)]
    assert ("espnet_plugin/pipeline/plan/losses.py", "BUILT_IN") in pairs
    lost = [(file, name) for file, name in pairs if name not in (ROOT / file).read_text()]
    assert not lost


def sources() -> list[Path]:
    """Python files of ours, links left out."""
    found = (path for room in CODE for path in (ROOT / room).rglob("*.py"))
    return sorted(path for path in found if not path.is_symlink() and "exp" not in path.parts)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and lines of code of every function in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            yield node.name, lines


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    long = [(name, n) for name, n in functions(path) if n > MOST_LINES_OF_FUNCTION]
    assert not [(name, n) for name, n in long if name not in LONG]


def test_no_package_has_more_than_twenty_modules() -> None:
    package = ROOT / "espnet_plugin"
    folders = [package, *(path for path in package.rglob("*") if path.is_dir())]
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: n for name, n in counts.items() if n > MOST_MODULES} == {}


def test_bin_holds_only_what_people_type() -> None:
    modules = {path.stem for path in (ROOT / "espnet_plugin" / "bin").glob("*.py")}
    assert modules - {"__init__", "main"} == {name.replace("-", "_") for name in COMMANDS}
