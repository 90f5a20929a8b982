"""Reference-system time of a pipeline's steps: attempts on several machines, jobs, the table."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from espnet_plugin.pipeline.state.reference_system import (
    FILE,
    PROCESSOR_FILE,
    REFERENCE_SECONDS,
    measurement_stamp,
    read_processor_time,
    reference_time,
    write_processor_time,
)
from espnet_plugin.pipeline.state.state import PipelineState
from espnet_plugin.report.training_table import training_notes


def span(host: str, seconds: float, step: float | None) -> dict[str, object]:
    return {"host": host, "seconds": seconds, "reference_step_seconds": step}


def test_attempts_count_at_the_speed_of_their_machine() -> None:
    fast, slow = REFERENCE_SECONDS / 2, REFERENCE_SECONDS * 4
    spans = [span("a", 100.0, fast), span("b", 100.0, slow)]
    assert reference_time(spans, {}) == pytest.approx(200 + 25)
    # nothing measured: another measurement of that host, or no answer
    assert reference_time([span("a", 10.0, None)], {"a": fast}) == pytest.approx(20)
    assert reference_time([span("c", 10.0, None)], {"a": fast}) is None
    # killed before anything happened
    assert reference_time([span("c", 0.0, None), span("a", 1.0, fast)], {}) == pytest.approx(2)
    assert reference_time([], {"a": fast}) is None
    # what the machine did beside it, or while it was stopped, does not count
    shared = span("a", 100.0, fast) | {"processor_seconds": 30.0}
    assert reference_time([shared, span("b", 100.0, slow)], {}) == pytest.approx(60 + 25)


def test_processor_time_is_that_of_each_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    before = time.process_time()
    write_processor_time(tmp_path)
    found = read_processor_time(tmp_path)
    assert found is not None and before <= 4 * found <= time.process_time()
    stamp = measurement_stamp(tmp_path, PROCESSOR_FILE)
    assert read_processor_time(tmp_path, stamp) is None  # an earlier attempt's


def test_the_state_keeps_attempts_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("espnet_plugin.pipeline.state.state.time.time", lambda: now)
    state = PipelineState(tmp_path / "pipeline.json")
    state.begin("train:a", "f", "a", {})
    now = 1030.0
    state.beat("train:a")  # and killed
    state = PipelineState.load(tmp_path / "pipeline.json")
    now = 5000.0
    step = state.begin("train:a", "f", "a", {})
    step.spans[-1]["reference_step_seconds"] = 0.5
    now = 5012.0
    state.end("train:a", "done")
    spans = PipelineState.load(tmp_path / "pipeline.json").steps["train:a"].spans
    assert [s["seconds"] for s in spans] == [30.0, 12.0]
    assert [s["reference_step_seconds"] for s in spans] == [None, 0.5]
    assert state.steps["train:a"].seconds == 42.0


def test_the_table_has_the_time_where_it_is_known(tmp_path: Path) -> None:
    half = REFERENCE_SECONDS / 2
    state = PipelineState(tmp_path / "pipeline.json")
    for name in ("train:a", "job:alignment"):
        state.begin(name, "f", name.partition(":")[2], {})
        state.end(name, "done")
        state.step(name).seconds = 60.0
        state.step(name).spans = [span("host", 60.0, None)]
    state.plan = ["train:a", "job:alignment"]
    state.save()
    assert training_notes(tmp_path)[2] == "|step|status|epochs|wall-clock|"
    state.step("train:a").spans = [span("host", 60.0, half)]
    state.save()
    table = training_notes(tmp_path)[2:]
    assert table[0] == "|step|status|epochs|wall-clock|reference time|"
    assert table[2] == "|train:a|done|0|0:01:00|0:02:00|"
    assert table[3] == "|job:alignment|done||0:01:00|0:02:00|"
    assert table[4] == "|**all**|||0:02:00|0:04:00|"
    # a state of before there was reference time
    data = json.loads((tmp_path / "pipeline.json").read_text())
    for step in data["steps"].values():
        del step["spans"]
    (tmp_path / "pipeline.json").write_text(json.dumps(data))
    assert training_notes(tmp_path)[2] == "|step|status|epochs|wall-clock|"


def test_a_running_stage_takes_the_measurement_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from espnet_plugin.pipeline.plan.options import RunOptions
    from espnet_plugin.pipeline.plan.stage_plan import TrainStage
    from espnet_plugin.pipeline.state.state import StepState
    from espnet_plugin.pipeline.steps import training

    folder = tmp_path / "exp" / "a"
    folder.mkdir(parents=True)
    old = folder / FILE
    old.write_text('{"reference_step_seconds": 9.0}')
    os.utime(old, (1.0, 1.0))  # an earlier attempt's, perhaps of another machine
    seen = []

    def fake_run(run, command, log, tick) -> None:
        tick()
        seen.append(state.spans[-1]["reference_step_seconds"])
        old.write_text('{"reference_step_seconds": 0.25}')
        tick()
        (folder / PROCESSOR_FILE).write_text('{"processor_seconds": 7.5}')
        (folder / "valid.loss.ave.pth").touch()

    monkeypatch.setattr(training, "_run", fake_run)
    monkeypatch.setattr(training, "train_command", lambda *a: ["true"])
    options = RunOptions(tmp_path / "exp", tmp_path, tmp_path, tmp_path / "stats")
    stage = TrainStage("a", "ctc", {"max_epoch": 1}, None)
    state = StepState(spans=[span("host", 0.0, None)])
    run = training.StageRun(stage, options, None, None, lambda: None, lambda line: None)
    training.train(run, state, lambda: None)
    assert seen == [None] and state.spans[-1]["reference_step_seconds"] == 0.25
    assert state.spans[-1]["processor_seconds"] == 7.5
