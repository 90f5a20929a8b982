"""A package ready to be loaded: its configurations with absolute paths, everything else as it is.

Paths in a package are relative to its folder, which a loading program does not stand in. So the
configurations that a program reads are written anew, and all other files linked, in a folder of the
user's cache. Other YAML files (of the train stages) are left out: nobody has looked at what they
name. The package itself is never touched: it may be a read-only snapshot of the Hub.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet_plugin.packages.cache import cache_folder
from espnet_plugin.packages.inspection import configurations, members
from espnet_plugin.packages.package import META, Package, read_package
from espnet_plugin.packages.plain_yaml import dump_plain, read_plain
from espnet_plugin.packages.references import resolve

#: Part of a view's name: what an earlier version wrote is not used.
_FORM = 2


def loadable(package: Package, cache: Path | None = None) -> Package:
    """The package with absolute paths in its configurations.

    Raises:
        ValueError: a configuration names a file that the package lacks, or is damaged.
    """
    root = package.root.resolve()
    named = configurations(package)
    files = {
        name: path
        for name, path in members(root).items()
        if name in named or name == META or not name.endswith((".yaml", ".yml"))
    }
    mark = hashlib.sha256(f"{root} {_FORM}".encode())
    for name, path in files.items():
        state = path.stat()
        mark.update(f"{name} {state.st_size} {state.st_mtime_ns}".encode())
        if name in named or name == META:
            mark.update(path.read_bytes())
    folder = (cache or cache_folder()) / "views" / mark.hexdigest()[:32]

    def locate(value: str) -> str | None:
        return str(folder / value) if value in files else None

    texts = {
        name: dump_plain(resolve(read_plain(root / name), locate, root / name, decoding=decoding))
        for name, decoding in named.items()
        if name in files
    }
    if not folder.is_dir():
        _write(folder, files, texts)
    return read_package(folder)


def strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings of plain data, each with the key that it stands under."""
    if isinstance(value, dict):
        for inner_key, inner in value.items():
            yield from strings(inner, str(inner_key))
    elif isinstance(value, str):
        yield key, value


def _write(folder: Path, files: Mapping[str, Path], texts: Mapping[str, str]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, path in files.items():
            target = scratch / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name in texts:
                target.write_text(texts[name], encoding="utf-8")
            else:
                target.symlink_to(path)
        try:
            os.rename(scratch, folder)
        except OSError:
            if not folder.is_dir():  # else another process has just written the same
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
