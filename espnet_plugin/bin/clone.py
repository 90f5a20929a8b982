"""A recipe in a folder of your own, to run, change and keep: `clone librispeech/asr1 my_recipe`.

The folder holds all that the recipe needs besides this package, no links to anything else: run.sh,
progressive.sh, path.sh (with the environment that `clone` ran in), conf, local, and the documents.
"""

from __future__ import annotations

import argparse
import logging
import os
import posixpath
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from espnet_plugin import __version__
from espnet_plugin.corpora.strict_parser import StrictParser

_PACKAGE = Path(__file__).resolve().parents[1]
#: What recipes make in their folders, and Python anywhere.
_MADE = ("data", "dump", "exp", "downloads")
#: Of docs: what only `make docs` uses.
_SITE_ONLY = shutil.ignore_patterns("api", "*.py", "__pycache__")
_LINK = re.compile(r"\[([^]\n]*)\]\((?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)")


def recipes_root() -> Path:
    """The folder that holds egs2, conf and docs.

    Raises:
        ValueError: this installation has none.
    """
    for root in (_PACKAGE / "_recipes", _PACKAGE.parent):  # of a wheel; of a source tree
        if (root / "egs2/TEMPLATE/asr1/progressive.sh").is_file():
            return root
    raise ValueError(
        f"{_PACKAGE}: no recipes came with this installation; install the package with pip from a "
        "wheel, the source package or a checkout"
    )


def recipe_names(root: Path) -> list[str]:
    """Such as librispeech/asr1: the folders below egs2 with a run.sh."""
    return sorted(
        path.parent.relative_to(root / "egs2").as_posix() for path in root.glob("egs2/*/*/run.sh")
    )


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    try:
        known = "recipes: " + ", ".join(recipe_names(recipes_root()))
    except ValueError as error:
        known = str(error)
    parser = StrictParser(description=__doc__, epilog=known)
    parser.add_argument("recipe", help="such as librispeech/asr1")
    parser.add_argument("folder", type=Path, help="to be made; it may exist, empty")
    return parser


def clone(recipe: str, folder: Path) -> None:
    """Copy a recipe, whole or not at all.

    Raises:
        ValueError: there is no such recipe, or something is at that place already.
        OSError: the copy could not be written.
    """
    root = recipes_root()
    if recipe not in recipe_names(root):
        raise ValueError(f"no recipe {recipe!r}; there are {', '.join(recipe_names(root))}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a file; name a folder that does not exist yet, or is empty")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder}: not empty; name a folder that does not exist yet, or is empty")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".clone.{os.getpid()}"
    try:
        shutil.copytree(root / "egs2" / recipe, partial, ignore=_left_out(root / "egs2" / recipe))
        shutil.copytree(root / "docs", partial / "docs", ignore=_SITE_ONLY)
        for page in partial.rglob("*.md"):
            place = page.relative_to(partial).as_posix()
            before = place if place.startswith("docs/") else f"egs2/{recipe}/{place}"
            text = page.read_text(encoding="utf-8")
            page.write_text(_links_inside(text, before, partial, recipe), encoding="utf-8")
        _name_environment(partial / "path.sh", recipe)
        for path in sorted(partial.iterdir()):
            path.rename(folder / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _left_out(recipe: Path) -> Callable[[str, list[str]], set[str]]:
    """For copytree: what running the recipe has left in its folder."""

    def names(folder: str, found: list[str]) -> set[str]:
        made = _MADE if Path(folder) == recipe else ()
        return {"__pycache__", *made} & set(found)

    return names


def _links_inside(text: str, page: str, folder: Path, recipe: str) -> str:
    """A document's links to files, changed to where these are in a clone.

    Args:
        text: of the document.
        page: its place in the source tree.
        folder: the clone; links to what it lacks become names of files.
        recipe: its name.
    """
    own = f"egs2/{recipe}/"
    here = posixpath.dirname(page.removeprefix(own))

    def changed(link: re.Match[str]) -> str:
        label, file, part = link[1], link[2], link[3] or ""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), file))
        inside = target.removeprefix(own)
        if (folder / inside).exists():
            return f"[{label}]({posixpath.relpath(inside, here or '.')}{part})"
        named = "" if target.endswith(label) else f"{label}: "
        return f"{named}`{target}` of the source tree"

    return _LINK.sub(changed, text)


def _name_environment(path_sh: Path, recipe: str) -> None:
    """Writes this Python's environment into path.sh: run.sh shall not need it activated."""
    programs = shlex.quote(str(Path(sys.executable).parent))
    ours = programs if sys.prefix != sys.base_prefix else ""  # not the system's, before others
    line = f"environment={ours}  # made by clone: {recipe} of espnet-progressive {__version__}"
    lines = path_sh.read_text(encoding="utf-8").splitlines()
    lines[lines.index("environment=")] = line
    path_sh.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    try:
        clone(args.recipe, args.folder)
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        return 2
    print(f"{args.folder}: {args.recipe}. Next: cd {shlex.quote(str(args.folder))} && ./run.sh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
