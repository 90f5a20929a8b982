"""The house's levels: imports point downward, and levels 0 to 3 need no ESPnet."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "espnet_plugin"
LEVELS = {
    "lattice": 0, "schedules": 0, "corpora": 0,
    "losses": 1, "nn": 1,
    "search": 2, "compat": 2,
    "stages": 3, "data": 3, "scoring": 3, "report": 3, "planning": 3, "publishing": 3,
    "transcription": 3,
    "models": 4,
    "tasks": 5,
    "bin": 6,
}  # fmt: skip
# It wraps ESPnet's own encoders (architecture.md, "The house").
MAY_IMPORT_ESPNET = {"nn/encoder.py"}
ESPNET = ("espnet", "espnet2", "espnet3")


def modules() -> list[Path]:
    """Every module that belongs to a level; the package's own top modules register us lazily."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def level(path: Path) -> int:
    return LEVELS[path.relative_to(PACKAGE).parts[0]]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """All imports of a module, those inside functions too, but none that only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute in this project"
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_every_package_has_a_level() -> None:
    found = {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))}
    assert found - set(LEVELS) == set(), "give the package a level here and in CONTRIBUTING.md"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    own, name = level(path), path.relative_to(PACKAGE)
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] == "espnet_plugin" and len(parts) > 1 and parts[1] in LEVELS:
            assert LEVELS[parts[1]] <= own, (
                f"espnet_plugin/{name}:{line} (level {own}) imports {module} (level "
                f"{LEVELS[parts[1]]}): a lower level must not know a higher one; move what is "
                "shared down, or pass it in as an argument"
            )
        if parts[0] in ESPNET and own <= 3 and str(name) not in MAY_IMPORT_ESPNET:
            pytest.fail(
                f"espnet_plugin/{name}:{line} (level {own}) imports {module}: levels 0 to 3 must "
                "work where ESPnet is not installed"
            )


def test_losses_and_search_load_without_espnet() -> None:
    """Not only by their text: nothing that they import in turn may bring ESPnet in either."""
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('espnet', 'espnet2', 'espnet3')))\n"  # imports now fail
        "import espnet_plugin, espnet_plugin.losses, espnet_plugin.search, espnet_plugin.lattice\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
