"""Where a program's module is: what people type is in ``bin``, what steps start in ``jobs``."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[2]


def program_module(name: str) -> str:
    """The module of a program, to be imported or started as ``python -m``.

    Args:
        name: such as ``align`` or ``check_data``.
    """
    for room in ("jobs", "jobs/reuse"):
        if (_PACKAGE / room / f"{name}.py").is_file():
            return f"espnet_plugin.{room.replace('/', '.')}.{name}"
    return f"espnet_plugin.bin.{name}"
