"""`espnet-progressive teacher`: codes of a model's frames; broken off and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from espnet_plugin.jobs.reuse import teacher
from espnet_plugin.nn.accelerators.repa import read_codes
from tests.integration.test_accelerator_resume import train
from tests.integration.test_pipeline_kill import make_corpus

pytestmark = pytest.mark.slow


def arguments(root: Path, model: Path, output: Path, *more: str) -> list[str]:
    data = root / "dump/train"
    return [
        *("--train_config", str(model / "config.yaml")),
        *("--model_file", str(model / "valid.loss.ave.pth")),
        *("--data_path_and_name_and_type", f"{data / 'feats.scp'},speech,kaldi_ark"),
        *("--data_path_and_name_and_type", f"{data / 'text'},text,text"),
        *("--key_file", str(data / "text"), "--output_dir", str(output), "--batch_size", "5"),
        *("--books", "4", "--codes", "8", "--num_workers", "0", *more),
    ]


def test_codes_of_a_model_train_a_student(tmp_path: Path) -> None:
    make_corpus(tmp_path)
    (tmp_path / "teacher").mkdir()
    model = tmp_path / "teacher" / "exp"
    train(tmp_path, model, {})
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert teacher.main(arguments(tmp_path, model, whole)) == 0
    about = json.loads((whole / "codes.json").read_text())
    assert (about["books"], about["codes"], about["subsampling"]) == (4, 8, 4)
    codes = read_codes(whole)
    assert len(codes) == 24

    # what a kill left: two whole batches and a cut line
    again.mkdir()
    (again / "codebooks.pt").write_bytes((whole / "codebooks.pt").read_bytes())
    assert teacher.main(arguments(tmp_path, model, again)) == 0
    lines = (whole / "codes").read_text().splitlines(keepends=True)
    (again / "codes").write_text("".join(lines[:11]) + lines[11][:9])
    assert teacher.main(arguments(tmp_path, model, again)) == 0
    assert (again / "codes").read_bytes() == (whole / "codes").read_bytes()

    # another block gives other codes; one that is not there is refused
    assert teacher.main(arguments(tmp_path, model, tmp_path / "low", "--block", "1")) == 0
    assert read_codes(tmp_path / "low") != codes
    assert teacher.main(arguments(tmp_path, model, tmp_path / "high", "--block", "9")) == 2

    (tmp_path / "student").mkdir()
    student = tmp_path / "student" / "exp"
    repa = {"codes": str(whole), "block": 2, "hidden": 8}
    train(tmp_path, student, {"repa": repa}, accum_grad=1, optim_conf={"lr": 0.01})
    config = yaml.safe_load((student / "config.yaml").read_text())
    assert config["accelerators"]["repa"]["codes"] == str(whole)
    saved = torch.load(student / "checkpoint.pth", weights_only=True)
    first, *_, last = (saved["reporter"]["stats"][n]["train"]["loss_repa"] for n in (1, 2, 3))
    assert last < first
    plain = torch.load(model / "valid.loss.ave.pth", weights_only=True)
    assert list(saved["model"]) == list(plain)
