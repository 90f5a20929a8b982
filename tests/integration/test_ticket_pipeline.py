"""A pipeline that searches for feed-forward units, and goes on with the smaller model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from espnet_plugin.bin.train import main
from tests.integration.test_pipeline_kill import CONFIG, make_corpus

pytestmark = pytest.mark.slow

STAGES = {
    "search": {
        "loss": "ctc",
        "encoder_conf": {"linear_units": 16},
        "accelerators": {"slim": {"l1": 0.01}},
        "max_epoch": 1,
    },
    "align": {
        "loss": "ctc",
        "init_from": {"ticket": {"units": 8}},
        "encoder_conf": {"linear_units": 8},
        "max_epoch": 1,
    },
}


def test_the_next_stage_trains_the_units_that_were_found(
    tmp_path: Path, preloaded_python: str
) -> None:
    make_corpus(tmp_path)
    base = {**CONFIG["base"], "accelerators": {}}
    pipeline = {
        "base": base,
        "stage_scheduler_conf": {"stages": list(STAGES)},
        "train_stages": STAGES,
    }
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    command = ["--config", str(tmp_path / "pipeline.yaml"), "--expdir", str(tmp_path / "exp")]
    command += ["--tag", "small", "--train_data", str(tmp_path / "dump/train")]
    command += [
        "--valid_data",
        str(tmp_path / "dump/valid"),
        "--stats_dir",
        str(tmp_path / "stats"),
    ]
    command += ["--feats_type", "extracted", "--token_list", str(tmp_path / "tokens.txt")]
    assert main([*command, "--python", preloaded_python]) == 0
    exp = tmp_path / "exp" / "small"
    told = json.loads((exp / "conf/align.ticket.json").read_text())
    large = torch.load(exp / "search/valid.loss.ave.pth", weights_only=True)
    start = torch.load(exp / "conf/align.ticket.pth", weights_only=True)
    small = torch.load(exp / "align/valid.loss.ave.pth", weights_only=True)
    assert len(told["kept"]) == 2  # layers: two blocks, no macaron style
    for name, units in told["kept"].items():
        assert len(units) == 8
        assert torch.equal(start[f"{name}.w_1.bias"], large[f"{name}.w_1.bias"][units])
        assert small[f"{name}.w_2.weight"].shape == (16, 8)
    assert (exp / "align/config.yaml").read_text().count("align.ticket.pth") == 1
