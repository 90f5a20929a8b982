"""What tests of the installed package share: source package, wheel, and a fresh environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = Path(sysconfig.get_path("purelib"))
#: A build in a folder of its own: pip's would run in the folder and leave `build` there.
BUILD = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def run(command: Sequence[str | Path], cwd: Path, **variables: str) -> str:
    """The output of a program that has to succeed, and finds no package by PYTHONPATH."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**environment, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


def source_tree(folder: Path) -> Path:
    """A copy of what packages are made from, with traces of use that belong into none."""
    for name in ("espnet_plugin", "egs2", "conf", "docs", "tools"):
        made = shutil.ignore_patterns("__pycache__", "data", "dump", "exp", "downloads")
        # `data` is also a room of the package
        ignore = made if name == "egs2" else shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, folder)
    for name in ("data", "dump", "exp", "downloads"):
        (folder / f"egs2/an4/asr1/{name}").mkdir()
        (folder / f"egs2/an4/asr1/{name}/left_over").touch()
    return folder


def build(kind: str, tree: Path, folder: Path) -> Path:
    """Make a package, without a package index.

    Args:
        kind: build_sdist, build_wheel or build_editable.
        tree: the sources.
        folder: where the package goes.
    """
    folder.mkdir(exist_ok=True)
    output = run([sys.executable, "-c", BUILD, kind, folder], tree)
    return folder / output.splitlines()[-1]


class Environment:
    """A fresh virtual environment that sees this one's packages, but starts none of its hooks."""

    def __init__(self, folder: Path) -> None:
        run([sys.executable, "-m", "venv", folder], folder.parent)
        self.bin = folder / "bin"
        self.python = self.bin / "python3"
        self.site = next(folder.glob("lib/python3*/site-packages"))
        # A line of a .pth is put on the path; .pth files there are not read, but that of setuptools
        # stands for distutils, which ESPnet imports.
        distutils = (SITE / "distutils-precedence.pth").read_text()
        (self.site / "zz_dependencies.pth").write_text(f"{SITE}\n{distutils}")

    def pip(self, *arguments: str | Path) -> str:
        """Run its pip, without an index."""
        quiet = ("--disable-pip-version-check", "--no-input")
        return self.run(self.python, "-m", "pip", *arguments, *quiet)

    def install(self, package: Path) -> None:
        """Install a wheel; the same version outside this environment does not count."""
        self.pip("install", "--no-deps", "--no-index", "--ignore-installed", package)

    def run(self, *command: str | Path, cwd: Path | None = None, **variables: str) -> str:
        """The output of a program, with this environment's first on PATH."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return run(command, cwd or self.bin.parent, PATH=path, **variables)
