"""The house: imports point to rooms further down or left, and levels 0 to 3 need no ESPnet."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "espnet_plugin"
#: From the ground up; within a level, a room may import those to its left.
LEVELS = (
    ("lattice", "corpora"),
    ("nn", "losses"),
    ("search", "compat"),
    (
        *("data", "scoring", "packages", "pipeline"),
        *("report", "planning", "transcription", "publishing"),
    ),
    ("models",),
    ("tasks", "inference", "export"),
    ("bin", "jobs"),
)
#: Rooms within a room, in the same order. What lies beside them in the room may import all of them.
INNER = {
    "pipeline": ("plan", "state", "launch", "steps"),
    "search": ("align", "lm", "beam", "lexicon"),
}
ROOMS = [room for level in LEVELS for room in level]
LEVEL = {room: number for number, level in enumerate(LEVELS) for room in level}
# Importing module -> imported: why this one may point upward.
UPWARD: dict[tuple[str, str], str] = {
    ("import_hook", "tasks.registry"): "registers our classes once ESPnet's task is imported",
    ("import_hook", "compat.nltk_offline"): "mends a dependency of ESPnet before it is imported",
    ("__init__", "tasks.registry"): "espnet_plugin.register(), the same on demand",
    ("__main__", "bin.main"): "python -m espnet_plugin",
}
# It wraps ESPnet's own encoders (architecture.md, "The house").
MAY_IMPORT_ESPNET = {"nn/encoder.py", "nn/chunked.py"}
ESPNET = ("espnet", "espnet2", "espnet3")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Dotted, without the package's own name: `losses.ctc`; `losses` for its `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


NAMES = {name_of(path) for path in modules()}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """All imports of a module, those inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute in this project"
            module = node.module or ""
            own = module.removeprefix("espnet_plugin").removeprefix(".")
            for alias in node.names:
                inside = f"{own}.{alias.name}" if own else alias.name
                whole = module.startswith("espnet_plugin") and inside in NAMES
                yield node.lineno, f"espnet_plugin.{inside}" if whole else module


def ours(path: Path) -> Iterator[tuple[int, str]]:
    """Of those, ours, named as `name_of` does."""
    for line, module in imports(path):
        if module.startswith("espnet_plugin."):
            yield line, module.removeprefix("espnet_plugin.")


def test_every_room_has_its_place_here_and_says_what_it_is_for() -> None:
    found = {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))}
    assert found == set(ROOMS), "give the package a level here and in docs/house.md"
    for room, level in LEVEL.items():
        docstring = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))
        assert docstring, f"{room}/__init__.py says in one line what the room is for"
        line = docstring.splitlines()[0]
        assert re.search(rf"\(L{level}\b", line), (
            f"{room}/__init__.py's first line lacks (L{level})"
        )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    own = name_of(path)
    for line, module in ours(path):
        if (own, module) in UPWARD or module in ("__init__", "import_hook", "moved"):
            continue
        assert own not in ("__init__", "import_hook", "moved"), f"{own}:{line} imports {module}"
        here, there = own.split("."), module.split(".")
        assert ROOMS.index(there[0]) <= ROOMS.index(here[0]), (
            f"espnet_plugin/{path.relative_to(PACKAGE)}:{line} imports {module}, a room above it "
            "or to its right: move what is shared down, or pass it in as an argument"
        )
        order = INNER.get(here[0], ())
        if here[0] == there[0] and len(here) > 2 and here[1] in order:
            assert there[1] not in order or order.index(there[1]) <= order.index(here[1]), (
                f"espnet_plugin/{path.relative_to(PACKAGE)}:{line} imports {module}: within "
                f"{here[0]} the order is {order}"
            )


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if LEVEL.get(name_of(path).split(".")[0], 9) <= 3],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_levels_0_to_3_need_no_espnet(path: Path) -> None:
    found = [(n, name) for n, name in imports(path) if name.split(".")[0] in ESPNET]
    assert not found or str(path.relative_to(PACKAGE)) in MAY_IMPORT_ESPNET, (
        f"{path.relative_to(PACKAGE)} imports {found}: levels 0 to 3 must work where ESPnet is not "
        "installed"
    )


def test_no_module_imports_itself_in_a_circle() -> None:
    """Through any number of others; a package's `__init__` imports for its users, not for us."""
    graph = {
        name_of(path): sorted({module for _, module in ours(path) if module in NAMES})
        for path in modules()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        for module in graph.get(name, ()):
            walk(module, (*trail, name))
        done.add(name)

    for name in graph:
        walk(name, ())


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
