"""benchmarks/accelerators.py: the arms' pipelines, equal time, and going on after a kill."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import benchmarks.accelerators as benchmark
from espnet_plugin.nn.accelerators import build_accelerators
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.scoring.edit_distance import Counts
from espnet_plugin.scoring.results import Results, results_markdown

HALF = {"ratio": 0.5, "error": 0.0, "seconds": 1.0}
STEPS = {stage: dict.fromkeys(benchmark.ARMS, HALF) for stage in benchmark.TIMED}


@pytest.mark.parametrize("arm", benchmark.ARMS)
def test_every_arm_is_a_pipeline_of_equal_time(
    arm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(benchmark.RECIPE)
    path = tmp_path / "arm.yaml"
    path.write_text(yaml.safe_dump(benchmark.arm_config(arm, STEPS)))
    config = load_pipeline_config(path)
    assert [stage.name for stage in make_plan(config)] == ["align", "viterbi", "full_sum", "mbr"]
    plain = load_pipeline_config(benchmark.PIPELINE).train_stages
    for name, options in config.train_stages.items():
        build_accelerators(options["accelerators"])
        changed = arm != "base" and name in benchmark.ARMS[arm].stages
        factor = 2 if changed else 1
        assert options["max_epoch"] == factor * benchmark.EPOCHS[name]
        differs = {key for key in options if options[key] != plain[name].get(key)}
        assert bool(differs - {"max_epoch"}) == (changed or arm == "thin")
    if arm == "lion":
        assert config.train_stages["align"]["scheduler_conf"]["peak_lr"] == pytest.approx(2.4e-4)


def test_an_arm_that_was_not_timed_is_named() -> None:
    with pytest.raises(ValueError, match="rep_conv in align was not timed; run steps --arms rep"):
        benchmark.epochs("rep_conv", "align", {})


def test_screening_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "steps.json").write_text(json.dumps(STEPS))
    begun: list[list[str]] = []
    statuses = [0, 1, 0]

    def run(command: list[str], **options: Any) -> SimpleNamespace:
        begun.append(command)
        status = statuses.pop(0)
        tag = command[command.index("--asr_tag") + 1]
        if status == 0:
            folder = tmp_path / "exp" / tag
            folder.mkdir(parents=True)
            (folder / "RESULTS.md").write_text("")
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(subprocess, "run", run)
    arguments = ["screen", "--output", str(tmp_path), "--arms", "base", "lion", "--an4_root", "x"]
    with pytest.raises(SystemExit, match="lion_s1 failed"):
        benchmark.main(arguments)
    benchmark.main(arguments)
    benchmark.main(arguments)
    assert [command[command.index("--asr_tag") + 1] for command in begun] == [
        *("base_s1", "lion_s1", "lion_s1")
    ]
    assert begun[0][-2:] == ["--an4_root", "x"]


def test_the_table_reads_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def counts(errors: int) -> Counts:
        return Counts(sentences=10, tokens=100, correct=100 - errors, substitutions=errors)

    tables = {
        unit: {
            f"{stage}_beam8/{data}": counts(first + n)
            for stage, first in (("full_sum", base + 50), ("mbr", base))
            for n, data in enumerate(("train_dev", "test"))
        }
        for unit, base in (("WER", 10), ("CER", 4))
    }
    folder = tmp_path / "exp" / "rep_conv_s2"
    folder.mkdir(parents=True)
    (folder / "RESULTS.md").write_text(results_markdown([Results("x", tables)]))
    benchmark.main(["table", "--output", str(tmp_path)])
    assert "| rep_conv | 2 | 10.0 | 11.0 | 4.0 | 5.0 |" in capsys.readouterr().out


@pytest.mark.slow
def test_steps_are_timed_beside_the_bases(tmp_path: Path) -> None:
    arguments = ["steps", "--output", str(tmp_path), "--arms", "rep_conv", "--stages", "full_sum"]
    benchmark.main([*arguments, "--repeats", "2"])
    found = json.loads((tmp_path / "steps.json").read_text())["full_sum"]
    assert found["base"]["ratio"] == 1.0
    assert found["rep_conv"]["seconds"] == pytest.approx(
        found["rep_conv"]["ratio"] * found["base"]["seconds"]
    )
