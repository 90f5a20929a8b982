"""benchmarks/accelerators.py: the arms' pipelines at equal time, and their steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import benchmarks.accelerators as benchmark
from benchmarks.study.configuration import load_configuration, pipeline_yaml
from benchmarks.study.units import Study, Wanted, read_study, select
from espnet_plugin.nn.accelerators import build_accelerators
from espnet_plugin.pipeline.plan.scheduler import make_plan

HALF = {"ratio": 0.5, "error": 0.0, "seconds": 1.0}
STEPS = {stage: dict.fromkeys(benchmark.ARMS, HALF) for stage in benchmark.TIMED}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    output = tmp_path_factory.mktemp("accelerators")
    (output / "steps.json").write_text(json.dumps(STEPS))
    benchmark.main(["study", "--output", str(output), "--seeds", "1", "2"])
    return read_study(output / "study.yaml")


@pytest.mark.parametrize("arm", benchmark.ARMS)
def test_every_arm_is_a_pipeline_of_equal_time(arm: str, study: Study, tmp_path: Path) -> None:
    units = select(study, Wanted(arms=[arm]))
    assert [unit.seed for unit in units] == [1, 2]
    path = tmp_path / "arm.yaml"
    path.write_text(yaml.safe_dump(pipeline_yaml(study, units[0])))
    config = load_configuration(study, units[0], path)
    assert [stage.name for stage in make_plan(config)] == ["align", "viterbi", "full_sum", "mbr"]
    plain = benchmark.plain_stages()
    for name, options in config.train_stages.items():
        build_accelerators(options["accelerators"])
        changed = arm != "base" and name in benchmark.ARMS[arm].stages
        # twice as fast, half of the recipe's budget
        full = plain[name]["max_epoch"]
        assert options["max_epoch"] == (full if changed else round(full / 2))
        differs = {key for key in options if options[key] != plain[name].get(key)}
        assert bool(differs - {"max_epoch"}) == (changed or arm == "thin")
    if arm == "lion":
        assert config.train_stages["align"]["scheduler_conf"]["peak_lr"] == pytest.approx(2.4e-4)


def test_an_arm_that_was_not_timed_is_named() -> None:
    with pytest.raises(ValueError, match="rep_conv in align was not timed; run steps --arms rep"):
        benchmark.epochs("rep_conv", {})


@pytest.mark.slow
def test_steps_are_timed_beside_the_bases(tmp_path: Path) -> None:
    arguments = ["steps", "--output", str(tmp_path), "--arms", "rep_conv", "--stages", "full_sum"]
    benchmark.main([*arguments, "--repeats", "2"])
    found = json.loads((tmp_path / "steps.json").read_text())["full_sum"]
    assert found["base"]["ratio"] == 1.0
    assert found["rep_conv"]["seconds"] == pytest.approx(
        found["rep_conv"]["ratio"] * found["base"]["seconds"]
    )
