"""Estimates against hand-computed values, and the plan command on a probe that is given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from espnet_plugin.bin import plan
from espnet_plugin.pipeline.plan.budget import Budget
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.planning.data_size import DataSize
from espnet_plugin.planning.devices import DEVICES, DeviceClass, device_class
from espnet_plugin.planning.estimate import estimate_stage, seconds_on
from espnet_plugin.planning.plan_table import GIB
from espnet_plugin.planning.probe_job import probe_batch
from espnet_plugin.planning.probe_result import Probe, StageProbe

#: 100 utterances of 10 s at 16 kHz and 5 for validation: 1,000 frames each.
TRAIN, VALID = (
    DataSize(np.full(n, 160000), np.full(n, 100), 1, 80, 16000.0, "test") for n in (100, 5)
)
#: Batches of 4 utterances: the limit of 3,500 frames is crossed by the fourth.
OPTIONS = {"batch_type": "length", "batch_bins": 560000, "max_epoch": 3, "accum_grad": 2}
MEASURED = StageProbe(
    parameters=10,
    frames=2000.0,
    seconds=4.0,
    optimizer_seconds=0.5,
    flops=8e12,
    launches=2000,
    state_bytes=int(2 * GIB),
    activation_bytes=int(GIB),
)


def probe(stage: StageProbe = MEASURED, kind: str = "cpu", memory: float = 16.0) -> Probe:
    return Probe("machine", kind, 1, int(memory * GIB), 1e12, 0.244, "2026-01-01", {"s": stage})


def stage(budget: Budget | None = None, **more: object) -> TrainStage:
    return TrainStage("s", "ctc", {**OPTIONS, **more}, None, budget=budget or Budget())


def options(folder: Path = Path(), **more: object) -> RunOptions:
    return RunOptions(exp=folder, train_data=folder, valid_data=folder, stats_dir=folder, **more)  # type: ignore[arg-type]


def test_steps_time_and_memory() -> None:
    found = estimate_stage(stage(), TRAIN, VALID, options(), probe())
    assert (found.batches.count, found.batches.largest_frames) == (25, 4000)
    # 25 batches, accumulated in twos; the one that is left over is dropped
    assert (found.epochs, found.updates) == (3, 36)
    assert found.speech_hours == pytest.approx(3 * 100 * 10 / 3600)
    # 2 ms a frame: 3 epochs of 100,000 training frames, and a third of that for 5,000 others
    assert found.seconds == pytest.approx(0.002 * (300000 + 3 * 5000 / 3) + 36 * 0.5)
    assert found.flops == pytest.approx(4e9 * 305000)
    # 2 GiB for the model and twice the activations of half the batch
    assert found.memory_bytes == pytest.approx(4 * GIB) and found.scaled


def test_utterances_beyond_the_limit_of_the_loss_are_not_counted() -> None:
    """60 utterances of 10 s and 40 of 20 s, T = 251 and 501."""
    mixed = replace(TRAIN, lengths=np.repeat([160000, 320000], [60, 40]))
    known = {"encoder": "progressive_conformer", "frontend_conf": {"hop_length": 160}}
    every = estimate_stage(stage(**known), mixed, VALID, options(), None)
    assert every.speech_hours == pytest.approx(3 * (60 * 10 + 40 * 20) / 3600)
    conf = {"loss_conf": {"max_frames": 500}}
    found = estimate_stage(stage(**known, **conf), mixed, VALID, options(), None)
    assert (found.batches.count, found.batches.largest_frames) == (15, 4000)
    assert found.speech_hours == pytest.approx(3 * 60 * 10 / 3600)
    assert probe_batch(stage(**known, **conf), mixed, options())["length"] == 160000
    with pytest.raises(ValueError, match="every utterance is longer"):
        estimate_stage(stage(**known, loss_conf={"max_frames": 9}), mixed, VALID, options(), None)


def test_two_gpus_halve_the_batch_of_each() -> None:
    found = estimate_stage(stage(), TRAIN, VALID, options(ngpu=2), probe())
    assert found.memory_bytes == pytest.approx(3 * GIB)
    assert found.seconds == pytest.approx(0.002 * 305000 / 2 + 36 * 0.5)


def test_a_gpus_peak_is_measured() -> None:
    peak = StageProbe(**{**MEASURED.__dict__, "frames": 4000.0, "peak_bytes": int(9 * GIB)})
    found = estimate_stage(stage(), TRAIN, VALID, options(), probe(peak, "cuda"))
    assert found.memory_bytes == pytest.approx(9 * GIB) and not found.scaled


def test_budgets_and_the_command_line_count() -> None:
    steps = stage(Budget(max_steps=50), num_iters_per_epoch=20)
    found = estimate_stage(steps, TRAIN, VALID, options(), None)
    assert (found.epochs, found.updates, found.seconds) == (5, 50, None)
    hours = estimate_stage(stage(Budget(hours=2.0)), TRAIN, VALID, options(), probe())
    assert (hours.epochs, hours.updates, hours.seconds) == (None, None, 7200.0)
    reference = stage(Budget(reference_hours=1.0))  # a machine of half the reference system's speed
    found = estimate_stage(reference, TRAIN, VALID, options(), probe())
    assert (found.epochs, found.seconds) == (None, pytest.approx(7200.0))
    assert estimate_stage(reference, TRAIN, VALID, options(), None).seconds is None
    given = options(stage_args={"s": ["--max_epoch", "7", "--use_amp", "true"]})
    found = estimate_stage(stage(), TRAIN, VALID, given, None)
    assert (found.epochs, found.precision) == (7, "bf16")


def test_other_devices_by_their_operations() -> None:
    found = estimate_stage(stage(), TRAIN, VALID, options(), probe())
    # 4e9 x 305,000 operations at half of 19.5 TFLOP/s
    assert seconds_on(DEVICES["a100"], found, 0.5) == pytest.approx(1.22e15 / 9.75e12)
    # 75 batches of 2,000 dispatches of 40 us bound a device that computes in no time
    fast = DeviceClass("fast", 1.0, 1e9, None, None)
    assert seconds_on(fast, found) == pytest.approx(75 * 2000 * 4e-5)
    assert seconds_on(DEVICES["a100"], found) == pytest.approx(1.22e15 / (0.2 * 19.5e12))
    assert device_class("RTX 3090") is DEVICES["rtx3090"]
    assert DEVICES["gtx1080ti"].rate("bf16") == DEVICES["gtx1080ti"].rate("fp32")
    assert DEVICES["a100"].sustained("bf16") == pytest.approx(0.07 * 312e12)
    assert DEVICES["gtx1080ti"].sustained("bf16") == pytest.approx(0.2 * 11.3e12)
    assert DEVICES["a100"].sustained("bf16", 0.5) == pytest.approx(0.5 * 312e12)
    with pytest.raises(ValueError, match="--devices b9000: unknown; known: h200"):
        device_class("b9000")
    assert (
        seconds_on(DEVICES["a100"], estimate_stage(stage(), TRAIN, VALID, options(), None)) is None
    )


def test_the_probe_is_small_on_a_cpu_and_whole_on_a_gpu() -> None:
    assert probe_batch(stage(), TRAIN, options()) == {
        "utterances": 1, "length": 160000, "labels": 100, "frames": 1000.0,
    }  # fmt: skip
    assert probe_batch(stage(), TRAIN, options(ngpu=1))["utterances"] == 4
    assert probe_batch(stage(), TRAIN, options(ngpu=2))["utterances"] == 2


@pytest.fixture
def recipe(tmp_path: Path) -> list[str]:
    """Arguments of `plan` for a YAML of one stage, with the probe given."""
    config = {
        "stage_scheduler_conf": {"stages": ["s"]},
        "train_stages": {"s": {**OPTIONS, "loss": "ctc"}},
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "probe.json").write_text(probe().dump())
    return [
        *("--config", str(tmp_path / "train.yaml"), "--expdir", str(tmp_path / "exp")),
        *("--train_hours", "10", "--utterance_seconds", "10"),
        *("--probe", str(tmp_path / "probe.json")),
    ]


def test_the_command_prints_and_labels(
    recipe: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.main([*recipe, "--devices", "h200", "a100"]) == 0
    out = capsys.readouterr().out
    assert "training data: 10.0 hours" in out and "assumed" in out
    assert "measured on machine, 1 thread, 2026-01-01" in out and "~ scaled" in out
    assert "Hours on other devices, scaled" in out and "A100" in out
    hours = float(next(line for line in out.splitlines() if line.startswith("s ")).split("~")[-1])
    assert f"reference-system time: {hours / 2:.1f} hours" in out  # 0.122 s against 0.244 s
    assert plan.main([*recipe, "--devices", "h200", "--markdown", "true"]) == 0
    assert "| stage | loss |" in capsys.readouterr().out


def test_several_gpus_have_hours_of_their_own(
    recipe: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.main([*recipe, "--ngpu", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading = next(line for line in lines if line.startswith("stage"))
    assert heading.split()[-4:] == ["GPU-hours", "hours", "on", "2"]
    together, clock = (
        float(cell) for cell in next(x for x in lines if x.startswith("all")).split()[-2:]
    )
    assert together == pytest.approx(2 * clock, rel=0.1)


def test_what_does_not_fit_is_refused_with_the_remedy(
    recipe: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "probe.json").write_text(probe(memory=1.0).dump())
    assert plan.main(recipe) == 1
    assert "stage s: needs" in caplog.text and "divide its batch_bins" in caplog.text
    assert plan.main([*recipe, "--devices", "gtx1080ti"]) == 0  # not about this machine
    caplog.clear()
    failed = StageProbe(frames=100.0, error="out of memory")
    (tmp_path / "probe.json").write_text(probe(failed, "cuda").dump())
    assert plan.main(recipe) == 1
    assert "stage s: out of memory" in caplog.text


def test_wrong_input_is_named(
    recipe: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert plan.main([*recipe[:4], "--probe_steps", "0"]) == 2
    assert "how much data? give --stats_dir" in caplog.text
    (tmp_path / "probe.json").write_text(json.dumps({"device": "x"}))
    assert plan.main(recipe) == 2
    assert "probe.json: not the result of a probe" in caplog.text
    assert plan.main([*recipe, "--utilisation", "3"]) == 2


def test_without_a_probe_the_steps_are_told(
    recipe: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.main([*recipe[:8], "--probe_steps", "0"]) == 0
    assert "times and memory: not measured" in capsys.readouterr().out
