"""Checks of software and files: Python, packages, programs, configuration."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from espnet_plugin.planning.checks import FAILED, NOTE, OK, Check, Wishes
from espnet_plugin.scoring.hub5_nist import find_program

PYTHON = ((3, 12), (3, 14))  # from, and below (setup.py)
#: Packages that every run needs, with the version where only one will do (setup.py).
PACKAGES: dict[str, str | None] = {
    "espnet": "202611",
    "torch": None,
    "torchaudio": None,
    "numpy": None,
    "PyYAML": None,
    "sentencepiece": None,
    "soundfile": None,
}
#: Optional packages -> what they are for, and the extra that installs them.
OPTIONAL = {
    "matplotlib": ("the report's pictures", "plots"),
    "gradio": ("the page that `espnet-progressive demo` serves", "demo"),
    "kenlm": ("faster word n-grams in the search", "ngram"),
    "desphere": ("shorten-compressed SPHERE audio, instead of sph2pipe", "sphere"),
    "espnet-g2p-en": ("pronunciations of words that a lexicon lacks", "g2p"),
}
#: Optional programs -> what for, and the Debian package.
TOOLS = {
    "sox": ("audio formats that soundfile cannot read", "sox"),
    "flac": ("looking at FLAC files by hand", "flac"),
    "sclite": ("NIST's scoring (Switchboard)", "sctk"),
    "sph2pipe": ("shorten-compressed SPHERE audio", "sph2pipe"),
    "sbatch": ("jobs on a Slurm cluster", "slurm-client"),
}
#: Required tools -> remedy, where it is not `apt-get install <name>`.
_PACKAGE_OF = {name: package for name, (_, package) in TOOLS.items()} | {"hubscr.pl": "sctk"}


def software_checks(wishes: Wishes) -> Iterator[Check]:
    """All checks of software and files."""
    yield python_version(sys.version_info[:2])
    if "_espnet_progressive_startup" not in sys.modules:
        yield Check(
            "start-up hook",
            NOTE,
            "not installed: ESPnet's own programs (asr.sh) know our classes only after `import "
            "espnet_plugin`; pip install puts it there (docs/espnet_checkout.md)",
        )
    for name, wanted in PACKAGES.items():
        yield package(name, wanted)
    for name in wishes.packages:
        yield package(name, None)
    for name, (purpose, extra) in OPTIONAL.items():
        if name not in wishes.packages:
            yield optional_package(name, purpose, extra)
    for name in wishes.tools:
        yield tool(name)
    for name, (purpose, _) in TOOLS.items():
        if name not in wishes.tools:
            yield optional_tool(name, purpose)
    for path in wishes.files:
        if path.is_file() and path.stat().st_size:
            yield Check("file", OK, str(path))
        else:
            what = "empty" if path.is_file() else "no such file"
            yield Check("file", FAILED, f"{path}: {what}", "make it, or correct its name")


def python_version(found: tuple[int, ...]) -> Check:
    """Python's version."""
    name = f"{platform.python_implementation()} {'.'.join(map(str, found))} ({sys.executable})"
    if not PYTHON[0] <= found < PYTHON[1]:
        wanted = f"{PYTHON[0][0]}.{PYTHON[0][1]} or {PYTHON[1][0]}.{PYTHON[1][1] - 1}"
        return Check("python", FAILED, name, f"use Python {wanted}: `make setup` finds or gets it")
    return Check("python", OK, name)


def package(name: str, wanted: str | None) -> Check:
    """A package that must be there."""
    pinned = f"{name}=={wanted}" if wanted else name
    try:
        found = version(name)
    except PackageNotFoundError:
        remedy = f"`make setup`, or: pip install {pinned}"
        return Check(f"package {name}", FAILED, "not installed", remedy)
    if wanted is not None and found != wanted:
        return Check(
            f"package {name}", FAILED, f"{found}, tested with {wanted}", f"pip install {pinned}"
        )
    return Check(f"package {name}", OK, found)


def optional_package(name: str, purpose: str, extra: str) -> Check:
    """A package that only some runs need."""
    try:
        return Check(f"package {name}", OK, version(name))
    except PackageNotFoundError:
        found = f"not installed; for {purpose} (pip install 'espnet-progressive[{extra}]')"
        return Check(f"package {name}", NOTE, found)


def tool(name: str) -> Check:
    """A program that this run calls."""
    path = find_program(name)
    if path is None:
        remedy = f"apt-get install {_PACKAGE_OF.get(name, name)}, or put it on PATH"
        return Check(f"program {name}", FAILED, "not found", remedy)
    return Check(f"program {name}", OK, str(path))


def optional_tool(name: str, purpose: str) -> Check:
    """A program that only some runs call."""
    path = find_program(name)
    return Check(f"program {name}", OK if path else NOTE, str(path or f"not found; for {purpose}"))
