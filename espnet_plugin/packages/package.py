"""A package: a folder with `meta.yaml`, a model, its configuration and all they need.

meta.yaml is ESPnet's (espnet2.main_funcs.pack_funcs): `files` and `yaml_files` map keyword
arguments of `Speech2Text` to files, `espnet` is the version that packed it. Ours adds
`espnet_progressive`, which ESPnet does not read: the package's version, `decoding` (options of
the search), `stage` and `imports` (modules of other packages that it needs). Paths in it, and in
the YAML files, are relative to the folder.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.packages.archive import member_path
from espnet_plugin.packages.imports import module_names
from espnet_plugin.packages.plain_yaml import read_plain

META = "meta.yaml"
MODEL, CONFIG = "asr_model_file", "asr_train_config"
DECODING = "decoding"
IMPORTS = "imports"
#: Options that name a file which the model cannot be built or used without.
FILE_KEYS = frozenset({"stats_file", "bpemodel", "lexicon", "non_linguistic_symbols"})
#: Set to 1, a package of another ESPnet release is taken all the same.
ANY_ESPNET = "ESPNET_PROGRESSIVE_ANY_ESPNET"


@dataclass(frozen=True)
class Package:
    """A package on disk, checked.

    Attributes:
        root: its folder.
        files: keyword argument of `Speech2Text` -> file, relative to ``root``.
        yaml_files: likewise for configurations, in which paths are relative to ``root``.
        espnet: the ESPnet release it was packed with.
        extra: what our own `pack` noted; empty for a package of ESPnet's.
    """

    root: Path
    files: Mapping[str, str]
    yaml_files: Mapping[str, str]
    espnet: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_file(self) -> Path:
        return self.root / self.files[MODEL]

    @property
    def train_config(self) -> Path:
        return self.root / self.yaml_files[CONFIG]

    @property
    def decoding(self) -> Path | None:
        """YAML of the search's options, or None."""
        name = self.extra.get(DECODING)
        return None if name is None else self.root / str(name)

    @property
    def imports(self) -> tuple[str, ...]:
        """Modules of other packages that the model needs."""
        return module_names(self.extra.get(IMPORTS), str(self.root / META))


def read_package(root: Path) -> Package:
    """Read and check the package in a folder.

    Raises:
        ValueError: meta.yaml or a file that it names is missing, it is damaged, it names files
            elsewhere, or another ESPnet release packed it.
    """
    meta = read_plain(root / META)
    tables: dict[str, dict[str, str]] = {}
    for part in ("files", "yaml_files"):
        table = meta.get(part)
        if not isinstance(table, dict):
            raise ValueError(f"{root / META}: has no table {part!r}; it is not an ESPnet package")
        tables[part] = {str(key): str(value) for key, value in table.items()}
    extra = meta.get("espnet_progressive") or {}
    if not isinstance(extra, dict):
        raise ValueError(f"{root / META}: espnet_progressive must be a table")
    espnet = meta.get("espnet")
    package = Package(root, **tables, espnet=None if espnet is None else str(espnet), extra=extra)
    for key, part in ((MODEL, "files"), (CONFIG, "yaml_files")):
        if key not in tables[part]:
            raise ValueError(
                f"{root / META}: {part} names no {key}; it is not a package of a speech "
                f"recogniser (it has: {', '.join([*tables['files'], *tables['yaml_files']])})"
            )
    named = [*tables["files"].values(), *tables["yaml_files"].values()]
    named += [str(extra[DECODING])] if extra.get(DECODING) else []
    for name in named:
        _check_member(root, name)
    _check_release(package)
    module_names(extra.get(IMPORTS), str(root / META))
    return package


def _check_member(root: Path, name: str) -> None:
    try:
        member_path(name)
    except ValueError as error:
        raise ValueError(f"{root / META}: {error}") from error
    if not (root / name).is_file():
        raise ValueError(f"{root}: lacks {name}, which its meta.yaml names; fetch it again")


def _check_release(package: Package) -> None:
    """A configuration means what it says in the release that wrote it."""
    try:
        installed = importlib.metadata.version("espnet")
    except importlib.metadata.PackageNotFoundError:
        return
    if package.espnet in (None, installed) or os.environ.get(ANY_ESPNET) == "1":
        return
    raise ValueError(
        f"{package.root}: packed with ESPnet {package.espnet}, installed is {installed}; "
        f"pip install espnet=={package.espnet}, or set {ANY_ESPNET}=1 to try it as it is"
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file of the user's: plain data only; `plain_yaml.read_plain` reads a stranger's.

    Raises:
        ValueError: missing, not plain YAML, or not a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path.parent}: has no {path.name}, so it is not a packed model"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not plain YAML: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a mapping, found {type(data).__name__}")
    return data
