"""A package ready to be loaded: its configurations with absolute paths, everything else as it is.

Paths in a package are relative to its folder, which a loading program does not stand in. So YAML
files are written anew, and all other files linked, in a folder of the user's cache. The package
itself is never touched: it may be a read-only snapshot of the Hub.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.publishing.archive import member_path
from espnet_plugin.publishing.cache import cache_folder
from espnet_plugin.publishing.package import (
    FILE_KEYS,
    META,
    Package,
    read_mapping,
    read_package,
)
from espnet_plugin.publishing.portable import replace_members


def loadable(package: Package, cache: Path | None = None) -> Package:
    """The package with absolute paths in its configurations.

    Raises:
        ValueError: a configuration names a file that the package lacks, or is damaged.
    """
    root = package.root.resolve()
    members = {path.relative_to(root).as_posix(): path for path in _walk(root)}
    texts: dict[str, bytes] = {}
    mark = hashlib.sha256(str(root).encode())
    for name in sorted(members):
        if name.endswith((".yaml", ".yml")):
            texts[name] = members[name].read_bytes()
        state = members[name].stat()
        mark.update(f"{name} {state.st_size} {state.st_mtime_ns}".encode())
        mark.update(texts.get(name, b""))
    for name in package.yaml_files.values():
        _check_references(root, name, members)
    folder = (cache or cache_folder()) / "views" / mark.hexdigest()[:32]
    if not folder.is_dir():
        _write(root, folder, members, texts)
    return read_package(folder)


def _walk(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def _check_references(root: Path, name: str, members: Mapping[str, Path]) -> None:
    for key, value in strings(read_mapping(root / name)):
        if key in FILE_KEYS and value and value not in members:
            raise ValueError(
                f"{root / name}: {key} names {value}, which the package lacks; pack the model "
                "again with espnet-progressive pack"
            )


def strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings of plain data, each with the key that it stands under."""
    if isinstance(value, dict):
        for inner_key, inner in value.items():
            yield from strings(inner, str(inner_key))
    elif isinstance(value, str):
        yield key, value


def _write(
    root: Path, folder: Path, members: Mapping[str, Path], texts: Mapping[str, bytes]
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    absolute = {name: str(folder / member_path(name)) for name in members if "/" in name}
    try:
        for name, path in members.items():
            target = scratch / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name in texts and name != META:
                data = replace_members(read_mapping(root / name), absolute)
                target.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
            else:
                target.symlink_to(path)
        try:
            os.rename(scratch, folder)
        except OSError:
            if not folder.is_dir():  # else another process has just written the same
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
