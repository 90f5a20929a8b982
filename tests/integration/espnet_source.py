"""ESPnet's source package from the index, for its recipe `mini_an4`, and what the recipe calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

FOLDERS = ("egs2/TEMPLATE/asr1", "egs2/mini_an4/asr1", "tools")
#: Links of a checkout to folders, which source packages lack.
LINKS = ("steps", "utils", "scripts", "pyscripts")

#: For `sph2pipe -f wav -p -c 1 FILE`, without the library that our own code reads SPHERE with.
SPH2PIPE = """#!/usr/bin/env python3
import array, sys, wave
with open(sys.argv[-1], "rb") as file:
    header, data = file.read(1024).decode("ascii"), file.read()
fields = dict(line.split(" -", 1) for line in header.splitlines() if " -" in line)
assert fields["sample_byte_format"] == "s2 01" and fields["channel_count"] == "i 1", fields
samples = array.array("h", data)
assert sum(samples) % 65536 == int(fields["sample_checksum"][2:]), "damaged"
with wave.open(sys.stdout.buffer, "wb") as out:
    out.setparams((1, 2, int(fields["sample_rate"][2:]), len(samples), "NONE", ""))
    out.writeframes(data)
"""
#: For `sclite -r REF trn -h HYP trn -i rm -o all stdout`: its summary, which is all that is read.
SCLITE = """#!/usr/bin/env python3
import sys
from espnet_plugin.scoring.edit_distance import SCLITE_COSTS, Counts, align, count_errors
def read(option):
    lines = open(sys.argv[sys.argv.index(option) + 1], encoding="utf-8").read().splitlines()
    return {line.split()[-1]: line.split()[:-1] for line in lines}
references, hypotheses = read("-r"), read("-h")
assert references.keys() == hypotheses.keys()
pairs = [(references[key], hypotheses[key]) for key in references]
steps = align(*zip(*pairs), SCLITE_COSTS)
c = sum(map(count_errors, steps), Counts())
shares = map(c.percent, (c.correct, c.substitutions, c.deletions, c.insertions, c.errors))
print(f"| Sum/Avg | {c.sentences} {c.tokens} |",
      *(f"{share:.1f}" for share in shares), f"{c.sentence_error_rate:.1f} |")
"""
PROGRAMS = {"sph2pipe/sph2pipe": SPH2PIPE, "sctk/bin/sclite": SCLITE}


def source_package() -> Path:
    """The source package of the installed ESPnet, downloaded once a machine.

    Skips the test where it cannot be had.
    """
    number = version("espnet")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "espnet-progressive-tests"
    package = folder / f"espnet-{number}.tar.gz"
    if not package.is_file():
        _download(number, folder)
    if not package.is_file():
        pytest.skip(f"{package}: ESPnet {number} has no source package on this index")
    return package


def _download(number: str, folder: Path) -> None:
    """pip's, into a folder of its own first: what is in the cache is whole."""
    partial = folder / f"partial.{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", partial / "env"], check=True)
        done = subprocess.run(
            [
                *(partial / "env/bin/python", "-m", "pip", "download", "--no-deps"),
                *("--no-binary", "espnet", "--dest", partial, f"espnet=={number}"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            pytest.skip(f"ESPnet's source package cannot be had: {last}")
        for path in partial.glob("espnet-*.tar.gz"):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(partial)


def checkout(folder: Path) -> Path:
    """Unpack what `mini_an4` needs as a checkout has it; returns the recipe's folder.

    Skips the test where the package has no recipes.
    """
    package = source_package()
    top = package.name.removesuffix(".tar.gz")
    with tarfile.open(package) as archive:
        wanted = tuple(f"{top}/{name}/" for name in FOLDERS)
        members = [member for member in archive if member.name.startswith(wanted)]
        archive.extractall(folder, members, filter="data")
    recipe = folder / top / "egs2/mini_an4/asr1"
    if not (recipe / "asr.sh").is_file() or not (recipe / "downloads.tar.gz").is_file():
        pytest.skip(f"{package}: holds no egs2/mini_an4/asr1 with its audio")
    for name in LINKS:
        if not (recipe / name).exists():
            (recipe / name).symlink_to(Path("../../TEMPLATE/asr1", name))
    for name, program in PROGRAMS.items():
        path = folder / top / "tools" / name
        if shutil.which(path.name) is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(program)
            path.chmod(0o755)
    return recipe
