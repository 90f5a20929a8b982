"""The package as users install it, made once for all tests that need it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.installation import Environment, build, source_tree


@pytest.fixture(scope="session")
def source_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source package of this working tree."""
    folder = tmp_path_factory.mktemp("source")
    return build("build_sdist", source_tree(folder / "tree"), folder / "dist")


@pytest.fixture(scope="session")
def wheel(source_package: Path) -> Path:
    """The wheel, made from the source package."""
    folder = source_package.parents[1]
    shutil.unpack_archive(source_package, folder / "unpacked", filter="data")
    (tree,) = (folder / "unpacked").iterdir()
    return build("build_wheel", tree, source_package.parent)


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel in it."""
    environment = Environment(tmp_path_factory.mktemp("installed") / "env")
    environment.install(wheel)
    return environment
