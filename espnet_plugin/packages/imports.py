"""Modules of other packages, which register losses, models, ... with ours when they are imported.

Who trains names them: ``imports:`` of the pipeline's YAML or ``--imports``. Every program that
builds the model imports them, and the experiment and its packages remember them. A package may come
from a stranger, so the names in it import nothing: whoever uses it has to name them, too.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any


def module_names(value: Any, where: str) -> tuple[str, ...]:
    """The list under ``imports``; nothing is no module.

    Raises:
        ValueError: it is no list of names of modules.
    """
    names = [] if value is None else value
    if not isinstance(names, list | tuple) or not all(_is_module_name(name) for name in names):
        raise ValueError(
            f"{where}: imports must be a list of modules such as [mylab, mylab.losses], found "
            f"{value!r}"
        )
    return tuple(dict.fromkeys(names))


def import_modules(names: Sequence[str], where: str) -> None:
    """Import modules, so that what they register is known.

    Args:
        where: what names them, for messages.

    Raises:
        ValueError: one cannot be imported.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(
                f"{where}: cannot import {name}: {error}; install the package that has it, or put "
                "its folder on PYTHONPATH"
            ) from error


def require_imported(names: Sequence[str], source: str) -> None:
    """Refuse a package whose modules nobody has imported in this process.

    Args:
        source: the package, for messages.

    Raises:
        ValueError: naming the modules, and what to do.
    """
    lacking = [name for name in names if name not in sys.modules]
    missing = [name for name in lacking if importlib.util.find_spec(name.split(".")[0]) is None]
    if missing:
        raise ValueError(
            f"{source}: needs the Python module {', '.join(missing)} of another package, which is "
            "not installed here; install that package, or put its folder on PYTHONPATH"
        )
    if lacking:
        raise ValueError(
            f"{source}: needs the Python module {', '.join(lacking)} of another package. If you "
            f"trust that package, name it: --imports {' '.join(lacking)}, or in Python import "
            f"{', '.join(lacking)}"
        )


def add_imports_option(parser: argparse.ArgumentParser) -> None:
    """``--imports MODULE``, one at a time, as names of files may follow it."""
    parser.add_argument(
        "--imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module of another package that the model needs (may be given again)",
    )


def _is_module_name(name: Any) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))
