"""docs/extending.md as it stands: its loss, in a package outside the repository, trains, is packed,
loads with its import named, and is refused without it and where the package is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.integration.test_pack_and_load import CONFIG, command, make_corpus

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
# Refused first, then loaded, in one process that never saw the experiment.
LOAD = """
import json, sys
import numpy as np
from espnet_plugin.inference.speech2text import Speech2Text
try:
    Speech2Text.from_pretrained(sys.argv[1])
except ValueError as error:
    refused = str(error)
imported = "mylab" in sys.modules
recognise = Speech2Text.from_pretrained(sys.argv[1], imports=["mylab"])
speech = np.load(sys.argv[2])
tokens = [list(map(int, recognise(speech[name])[0][2])) for name in speech]
kind = type(recognise.asr_model.criterion)
print("RESULT" + json.dumps([refused, imported, kind.__module__, kind.__name__, tokens]))
"""
MISSING = """
import sys
from espnet_plugin.packages.loading import pretrained_arguments
try:
    pretrained_arguments(sys.argv[1])
except ValueError as error:
    print(error)
"""


def block(kind: str, first: str) -> str:
    """The page's first block of code that begins so."""
    found = re.search(rf"```{kind}\n({re.escape(first)}.*?)```", PAGE, re.S)
    assert found is not None
    return found.group(1)


@dataclass(frozen=True)
class Trained:
    """A packed model of the page's pipeline, and what it was made from."""

    base: Path
    exp: Path
    archive: Path
    log: str


def run(command: list[str], folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    """A program in a folder, with other folders on Python's path."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT])),
        "ESPNET_PROGRESSIVE_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, preloaded_python: str) -> Trained:
    base = tmp_path_factory.mktemp("outside")
    root, lab = base / "recipe", base / "lab"
    root.mkdir()
    lab.mkdir()
    (lab / "mylab.py").write_text(block("python", "import torch\nfrom espnet_plugin.extend"))
    make_corpus(root)
    config: dict[str, Any] = yaml.safe_load(block("yaml", "imports: [mylab]"))
    config["base"] = CONFIG["base"]
    (root / "pipeline.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    program = [preloaded_python, "-m", "espnet_plugin"]
    short = "--max_epoch 1 --num_iters_per_epoch 2"  # two steps
    options = command(root, preloaded_python, "--tag", "t")
    stages = [*("--full_sum_args", short), *("--calm_args", short)]
    done = run([*program, "train", *options, *stages], root, lab)
    assert done.returncode == 0, done.stderr
    exp, archive = root / "exp/t", base / "model.zip"
    packed = run([*program, "pack", "--exp", str(exp), "--outpath", str(archive)], root, lab)
    assert packed.returncode == 0, packed.stderr
    return Trained(base, exp, archive, (exp / "calm/train.log").read_text())


def test_the_loss_trains(trained: Trained) -> None:
    assert "loss_confidence=" in trained.log
    before, after = (
        torch.load(trained.exp / stage / "valid.loss.ave.pth", weights_only=True)
        for stage in ("full_sum", "calm")
    )
    assert not torch.equal(before["ctc.ctc_lo.weight"], after["ctc.ctc_lo.weight"])


def test_the_experiment_and_the_package_remember_the_import(trained: Trained) -> None:
    for stage in ("full_sum", "calm"):
        assert yaml.safe_load((trained.exp / stage / "config.yaml").read_text())["imports"] == [
            "mylab"
        ]
    with zipfile.ZipFile(trained.archive) as archive:
        meta = yaml.safe_load(archive.read("meta.yaml"))
    assert meta["espnet_progressive"]["imports"] == ["mylab"]


def test_the_package_loads_with_its_import_named_and_not_without(trained: Trained) -> None:
    (trained.base / "elsewhere").mkdir()
    arguments = [LOAD, str(trained.archive), str(trained.base / "speech.npz")]
    done = run([sys.executable, "-c", *arguments], trained.base / "elsewhere", trained.base / "lab")
    assert done.returncode == 0, done.stderr
    refused, imported, *kind, tokens = json.loads(done.stdout.rpartition("RESULT")[2])
    assert "needs the Python module mylab" in refused and "--imports mylab" in refused
    assert not imported, "a package made us import something"
    assert kind == ["mylab", "Confidence"] and len(tokens) == 6


def test_where_the_package_is_missing_the_message_says_so(trained: Trained) -> None:
    done = run([sys.executable, "-c", MISSING, str(trained.archive)], trained.base)
    assert "needs the Python module mylab of another package" in done.stdout, done.stderr
    assert "not installed here" in done.stdout
    options = command(trained.exp.parents[1], sys.executable, "--tag", "t")
    done = run([sys.executable, "-m", "espnet_plugin", "train", *options], trained.base)
    assert done.returncode == 2 and "cannot import mylab" in done.stderr


def test_the_page_shows_a_loss_in_about_twenty_lines() -> None:
    code = block("python", "import torch\nfrom espnet_plugin.extend")
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 28
