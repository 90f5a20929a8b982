"""CONTRIBUTING's tasks name files that exist, at most four a task."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TASKS = ["add a loss", "add a stage", "add a corpus", "change pruning", "mend resume"]
MOST_FILES = 4


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
    assert ("espnet_plugin/pipeline/plan/stage_plan.py", "LOSS_NEEDS") in pairs
    lost = [(file, name) for file, name in pairs if name not in (ROOT / file).read_text()]
    assert not lost
