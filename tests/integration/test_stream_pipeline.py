"""A pipeline that trains on a stream: its producer dies, it is killed, and nothing is different."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.integration.test_accelerator_resume import assert_same
from tests.integration.test_pipeline_kill import CONFIG, contains, make_corpus, start
from tests.unit.data.test_stream_reader import COMMAND

pytestmark = pytest.mark.slow
RECORD = 27  # where the producer dies: in the second epoch, where half of each pool is old


def write_pipeline(root: Path) -> None:
    command = f"{COMMAND} --fault die --at {RECORD} --unless {root / 'mended'}"
    base: dict[str, Any] = {
        **CONFIG["base"],
        "accelerators": {"layer_drop": {"theta": 0.6}},
        "accum_grad": 1,
        "num_iters_per_epoch": 5,  # of 6 records; so a pool of 12 is never at its end with an epoch
        "stream": {"command": command, "pool": 12, "timeout": 120.0},
        "max_epoch": 3,
    }
    stages = {
        "align": {"loss": "ctc", "stream": {"reservoir": 10}},
        "viterbi": {"max_epoch": 1, "stream": {"seed": 6}},
        "full_sum": {"loss": "full_sum", "max_epoch": 1, "stream": {"seed": 7, "processes": 2}},
    }
    pipeline = {
        "base": base,
        "stage_scheduler_conf": {"stages": list(stages)},
        "train_stages": stages,
        "alignment": {"prior_scale": 0.3},
    }
    (root / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))


def test_a_dead_producer_and_a_kill_change_nothing(tmp_path: Path, preloaded_python: str) -> None:
    make_corpus(tmp_path)
    write_pipeline(tmp_path)
    (tmp_path / "mended").touch()
    assert start(tmp_path, "whole", preloaded_python).wait() == 0, log_of(tmp_path, "whole")
    (tmp_path / "mended").unlink()
    align = tmp_path / "exp/broken/align"

    assert start(tmp_path, "broken", preloaded_python).wait() != 0
    told = log_of(tmp_path, "broken")
    assert f"stream: record {RECORD}: the producer has ended (exit status 7)" in told
    assert "| about to die" in told
    assert epochs_of(align) == 1  # the checkpoint stands

    (tmp_path / "mended").touch()
    process = start(tmp_path, "broken", preloaded_python)
    try:
        while not contains(align / "train.log", "3/3epoch started"):
            assert process.poll() is None, log_of(tmp_path, "broken")
            time.sleep(0.002)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert epochs_of(align) == 2
    assert start(tmp_path, "broken", preloaded_python).wait() == 0, log_of(tmp_path, "broken")

    whole, other = tmp_path / "exp/whole", tmp_path / "exp/broken"
    for stage in ("align", "viterbi", "full_sum"):
        for name in ("checkpoint.pth", "valid.loss.ave.pth"):
            one, two = (torch.load(exp / stage / name, weights_only=True) for exp in (whole, other))
            assert_same(one.get("model", one), two.get("model", two))
            assert_same(one.get("optimizers"), two.get("optimizers"))
        places = [json.loads((exp / stage / "stream.0.json").read_text()) for exp in (whole, other)]
        assert places[0] == places[1]
    # 5 batches of the 2 of each pool: two pools and half of the third
    assert places[0]["epochs"] == {"1": {"record": 24, "batches": 1}}


def log_of(root: Path, tag: str) -> str:
    return (root / f"{tag}.log").read_text()[-4000:]


def epochs_of(folder: Path) -> int:
    """Whole epochs in a stage's checkpoint."""
    states = torch.load(folder / "checkpoint.pth", weights_only=True)
    return int(states["reporter"]["epoch"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": f"{COMMAND} --deaf"}, "record 1: it calls itself 0"),
        ({"command": f"{COMMAND} --samples"}, "samples, where 8 features a frame are expected"),
        ({"command": "false"}, "record 0: the producer has ended (exit status 1)"),
    ],
)
def test_a_producer_of_no_use_is_named_before_anything_trains(
    changes: dict[str, Any], message: str, tmp_path: Path, preloaded_python: str
) -> None:
    make_corpus(tmp_path)
    write_pipeline(tmp_path)
    raw = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())
    raw["train_stages"]["full_sum"]["stream"].update(changes)
    (tmp_path / "mended").touch()
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(raw))
    assert start(tmp_path, "none", preloaded_python).wait() != 0
    assert message in log_of(tmp_path, "none")
    assert "stage full_sum" in log_of(tmp_path, "none")
    assert not (tmp_path / "exp/none/align").exists()
