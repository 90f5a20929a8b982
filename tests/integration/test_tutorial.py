"""docs/tutorial.md, typed as it stands, on a few utterances of the stand-in corpus."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("TEMPLATE/asr1", "mini_tts/asr1")
#: What makes it small: the tutorial's text -> the same with more options.
SMALLER = {
    "./run.sh --stop_stage 1": "./run.sh --stop_stage 1"
    ' --local_data_opts "--num_train 48 --num_dev 8 --num_test 8"',
    "./run.sh --stage 2": './run.sh --stage 2 --force_alignment true --align_args "--max_epoch 1"'
    ' --viterbi_args "--max_epoch 1" --full_sum_args "--max_epoch 1"',
    "--train_hours 1": "--train_hours 1 --probe_steps 0",
}

pytestmark = pytest.mark.slow


def commands() -> str:
    """All blocks of commands but the set-up."""
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    assert "make setup" in blocks[0]
    script = "".join(blocks[1:])
    for said, small in SMALLER.items():
        assert script.count(said) == 1, said
        script = script.replace(said, small)
    return script


def test_the_tutorials_commands_go_through(tmp_path: Path) -> None:
    for recipe in RECIPES:
        target = tmp_path / "egs2" / recipe
        target.mkdir(parents=True)
        for file in (ROOT / "egs2" / recipe).iterdir():
            if file.name not in ("exp", "dump", "data", "downloads"):
                (target / file.name).symlink_to(file)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PATH": path}
    done = subprocess.run(
        ["bash", "-euc", commands()], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "data/train: 48 of 48 utterances usable" in done.stdout + done.stderr
    experiment = tmp_path / "egs2/mycorpus/asr1/exp/train_progressive_raw_char"
    for file in (
        "RESULTS.md",
        "report/report.md",
        "alignment/quality.md",
        f"{experiment.name}.zip",
    ):
        assert (experiment / file).is_file()
    assert re.search(r"train:mbr +done", done.stdout)
