"""An experiment that 0.1.0 began is shown as it is, and goes on where it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "experiment_0_1_0.tar.xz"
DONE = ["train:align", "job:alignment", "train:viterbi"]
TO_DO = ["train:full_sum", "job:nbest", "train:mbr"]


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    with tarfile.open(FIXTURE) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command under the module name that it had in 0.1.0."""
    command = [sys.executable, "-m", f"espnet_plugin.bin.{arguments[0]}", *arguments[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_status_shows_what_0_1_0_has_done(experiment: Path) -> None:
    done = call(experiment, "status", "--exp", "exp/old")
    assert done.returncode == 0, done.stderr
    assert "no such folder here; paths are taken from" in done.stderr  # it was made elsewhere
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    states = {row[0]: row[1] for row in rows if row}
    assert states == {**dict.fromkeys(DONE, "done"), **dict.fromkeys(TO_DO, "todo")}


def test_status_knows_the_options_that_progressive_sh_gave(experiment: Path) -> None:
    path = experiment / "exp/old/pipeline.json"
    state = json.loads(path.read_text())
    state["invocation"]["arguments"] += ["--cmd", "local", "--train_cmd", "slurm.pl --mem 4G"]
    path.write_text(json.dumps(state))
    done = call(experiment, "status", "--exp", "exp/old")
    assert done.returncode == 0 and "train:mbr" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_same_command_goes_on_and_trains_nothing_again(
    experiment: Path, preloaded_python: str
) -> None:
    kept = {
        name: (experiment / "exp/old" / name).read_bytes()
        for name in ("align/checkpoint.pth", "viterbi/checkpoint.pth", "alignment/alignment")
    }
    done = call(
        experiment,
        *("train", "--config", "pipeline.yaml", "--expdir", "exp", "--tag", "old"),
        *("--train_data", "dump/train", "--valid_data", "dump/valid", "--stats_dir", "stats"),
        *("--feats_type", "extracted", "--token_list", "tokens.txt"),
        *("--python", preloaded_python),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = json.loads((experiment / "exp/old/pipeline.json").read_text())["steps"]
    assert {name: step["status"] for name, step in steps.items()} == dict.fromkeys(
        [*DONE, *TO_DO], "done"
    )
    assert all(steps[name]["attempts"] == 1 for name in DONE)
    for name, content in kept.items():
        assert (experiment / "exp/old" / name).read_bytes() == content, name
    first = torch.load(experiment / "exp/old/viterbi/2epoch.pth", weights_only=True)
    last = torch.load(experiment / "exp/old/mbr/valid.loss.ave.pth", weights_only=True)
    assert first.keys() == last.keys()
