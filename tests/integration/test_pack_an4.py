"""The packed AN4 model gives its row of RESULTS.md, by the command of docs/publishing.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs2/an4/asr1"
MODEL = ROOT / "tests/fixtures/an4.zip"
# The corpus: AN4_ROOT, a folder or archive, or where this project's machines keep it.
CORPUS = Path(os.environ.get("AN4_ROOT") or ROOT / "../shared/data/an4_mfcc.tar.gz")

pytestmark = pytest.mark.slow


def rows(text: str, name: str) -> list[str]:
    """All rows of that name: of each experiment in turn its WER, CER and TER."""
    return re.findall(rf"^\|{re.escape(name)}\|(.*)\|$", text, re.MULTILINE)


def documented_command() -> str:
    """In docs/publishing.md: the line that evaluates the fixture."""
    text = (ROOT / "docs/publishing.md").read_text(encoding="utf-8")
    found = re.search(r"^\./run\.sh .*--download_model \S+an4\.zip$", text, re.MULTILINE)
    assert found
    return found[0]


def test_the_file_is_small() -> None:
    assert MODEL.stat().st_size < 10e6


def test_the_test_set_gives_the_row_of_the_results(tmp_path: Path, preloaded_python: str) -> None:
    if not CORPUS.exists():
        pytest.skip(f"no corpus at {CORPUS}; set AN4_ROOT to a folder or archive of AN4")
    for name in ("an4", "TEMPLATE"):
        ignore = shutil.ignore_patterns("data", "dump", "exp", "downloads")
        shutil.copytree(
            ROOT / "egs2" / name, tmp_path / "egs2" / name, symlinks=True, ignore=ignore
        )
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    command = documented_command().replace("$AN4_ROOT", str(CORPUS.resolve()))
    assert str(CORPUS.resolve()) in command
    done = subprocess.run(
        ["bash", "-euc", f"{command} --python {preloaded_python} --preload false"],
        cwd=tmp_path / "egs2/an4/asr1",
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "ESPNET_PROGRESSIVE_CACHE": str(tmp_path / "cache"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = (tmp_path / "egs2/an4/asr1/exp/an4/RESULTS.md").read_text(encoding="utf-8")
    published = (RECIPE / "RESULTS.md").read_text(encoding="utf-8")
    wer, cer = rows(result, "mbr_packed/test")
    known = rows(published, "mbr_default/test")
    assert wer in known and known[known.index(wer) + 1] == cer
