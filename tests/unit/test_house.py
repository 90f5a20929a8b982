"""The house and its map: CONTRIBUTING's tasks, docs/house.md's walks, sizes of files and lines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from espnet_plugin.bin.main import COMMANDS
from tests.unit.test_import_direction import LEVELS

ROOT = Path(__file__).resolve().parents[2]
TASKS = ["add a loss", "add a stage", "add a corpus", "change pruning", "mend resume"]
MOST_FILES = 4
MOST_MODULES = 20  # of a package, at one level
MOST_LINES = 400  # of a file
MOST_LINES_OF_FUNCTION = 50  # without its docstring
#: Functions that may be longer, and why.
LONG = {"_backward_kernel": "a Triton kernel is compiled whole; its halves share every value"}
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
LONGEST_LINE = 120  # of a document
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_line_is_too_long(document: Path) -> None:
    lines = document.read_text(encoding="utf-8").splitlines()
    long = [(n, len(line)) for n, line in enumerate(lines, 1) if len(line) > LONGEST_LINE]
    assert not long, f"(line, characters): {long}, at most {LONGEST_LINE}"


def test_every_page_has_its_place_in_the_sites_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    listed = set(re.findall(r"(\S+\.md)$", text, re.M))
    assert {str(page.relative_to(ROOT / "docs")) for page in PAGES} <= listed


NAME_OF_FILE = re.compile(r"`((?:espnet_plugin|egs2)/[\w./-]+)`")
#: An item of a walk names files, and what lies in them: `function()`, `Class.method()`, `Class`.
WALK = re.compile(r"^## (Walk \d): .*?\n(.*?)(?=^## |\Z)", re.M | re.S)
ITEM = re.compile(r"^\d+\. (.*?)(?=^\d+\. |\Z)", re.M | re.S)
NAMED = re.compile(r"`(?:([A-Za-z]\w*)\.)?(\w+)\(\)`|`([A-Z]\w*[a-z]\w*|[A-Z]+S)`")


def is_defined(name: str, text: str) -> bool:
    """Whether a file defines a function, a class or a constant of this name."""
    return re.search(rf"^ *(?:def|class) {name}\b|^{name}\b.* = ", text, re.M) is not None


def walks() -> dict[str, list[str]]:
    """Walk -> its items."""
    text = (ROOT / "docs/house.md").read_text(encoding="utf-8")
    return {walk: ITEM.findall(body) for walk, body in WALK.findall(text)}


def test_every_function_of_the_walks_is_in_a_file_of_its_item() -> None:
    lost, count = [], 0
    for walk, items in walks().items():
        for item in items:
            files = [ROOT / file for file in NAME_OF_FILE.findall(item)]
            texts = [path.read_text(encoding="utf-8") for path in files]
            for owner, function, other in NAMED.findall(item):
                wanted = [part for part in (owner, function, other) if part]
                count += 1
                if not any(all(is_defined(part, text) for part in wanted) for text in texts):
                    lost.append(f"{walk}: {'.'.join(wanted)} in {[path.name for path in files]}")
    assert not lost
    assert count > 60


def test_there_are_five_walks() -> None:
    found = walks()
    assert len(found) == 5 and all(len(items) >= 6 for items in found.values())


def test_the_table_of_rooms_has_the_order_that_imports_keep() -> None:
    section = (ROOT / "docs/house.md").read_text(encoding="utf-8").split("## Walk 1")[0]
    rows = re.findall(r"^\| (\d) \| (.*?) \|", section, re.M)
    rooms = [(int(level), room) for level, cell in rows for room in re.findall(r"`(\w+)`", cell)]
    assert rooms == [(level, room) for level, rooms in enumerate(LEVELS) for room in rooms]
