"""Stages with a stream: what a plan refuses, how long an epoch is, what makes them stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.plan.stage_plan import TrainStage, validate_plan
from espnet_plugin.pipeline.state.fingerprint import relevant_options

STREAM = {"command": "say", "pool": 100, "processes": 1}


def plan(folder: Path, alignment: Any = None, **stages: Any) -> list[TrainStage]:
    raw = {
        "base": {"stream": STREAM, "batch_type": "numel", "batch_bins": 1000},
        "stage_scheduler_conf": {"stages": list(stages)},
        "train_stages": stages,
        "alignment": alignment or {},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(raw))
    config = load_pipeline_config(folder / "pipeline.yaml")
    found = list(make_plan(config))
    validate_plan(found, config)
    return found


def test_stages_that_need_stored_data_are_refused_by_name(tmp_path: Path) -> None:
    align = {"loss": "ctc", "num_iters_per_epoch": 3}
    with pytest.raises(ValueError, match=r"mbr: stream brings .*loss mbr.*stream: null"):
        plan(tmp_path, align=align, viterbi={}, mbr={})
    stages = plan(tmp_path, align=align, viterbi={}, mbr={"stream": None})
    assert [bool(stage.options["stream"]) for stage in stages] == [True, True, False]


@pytest.mark.parametrize(
    "alignment", [{"from_file": "a"}, {"variants": True}, {"source": "transducer"}]
)
def test_alignments_that_no_stream_has_are_refused(
    alignment: dict[str, Any], tmp_path: Path
) -> None:
    stages = {"align": {"loss": "ctc"}, "viterbi": {}}
    (key,) = alignment
    with pytest.raises(ValueError, match=rf"stage viterbi: alignment.{key} is for stored data"):
        plan(tmp_path, alignment, **stages)
    plan(tmp_path, alignment, align={"loss": "ctc"}, viterbi={"stream": None})


def test_a_misspelt_option_is_named_with_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"align: stream\.commando: unknown.*did you mean command"):
        plan(tmp_path, align={"loss": "ctc", "stream": {"commando": "say"}})


def test_an_epoch_in_bins(tmp_path: Path) -> None:
    (stage,) = plan(tmp_path, align={"loss": "ctc", "stream": {"epoch_bins": 2500}})
    assert stage.options["num_iters_per_epoch"] == 3


def test_more_producers_make_no_stage_stale_and_another_seed_does() -> None:
    def relevant(**changes: Any) -> dict[str, Any]:
        return relevant_options({"loss": "ctc", "stream": {**STREAM, **changes}})

    assert relevant() == relevant(processes=3, timeout=9.0)
    assert relevant() != relevant(seed=2)
    assert relevant() != relevant(command="sing")
    assert relevant_options({"stream": None}) == {"stream": None}
