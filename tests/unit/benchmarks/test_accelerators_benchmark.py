"""benchmarks/accelerators.py: the arms' pipelines at equal time, and their steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import benchmarks.accelerators as benchmark
from benchmarks.accelerator_arms import ARMS, BASE, LIKE, TIMED, changed_stages, epochs, planned
from benchmarks.study.configuration import (
    load_configuration,
    pipeline_yaml,
    planned_stages,
    write_configuration,
)
from benchmarks.study.units import Study, Wanted, read_study, select
from espnet_plugin.nn.accelerators import accelerator_names, build_accelerators
from espnet_plugin.pipeline.plan.config import espnet_options, read_yaml
from espnet_plugin.pipeline.plan.scheduler import make_plan

SECONDS = {"align": 1.0, "viterbi": 1.1, "full_sum": 1.3}
RATIO = 0.7


def timed(ratio: float) -> dict[str, Any]:
    names = [*ARMS, *(f"{name}/{arm.first[0]}" for name, arm in ARMS.items() if arm.first)]
    names = [name for name in names if name not in LIKE]
    return {
        stage: {
            name: {"ratio": 1.0 if name == BASE else ratio, "seconds": seconds} for name in names
        }
        for stage, seconds in SECONDS.items()
    }


def make_study(output: Path, budget: float) -> Study:
    (output / "steps.json").write_text(json.dumps(timed(RATIO)))
    options = ["--output", str(output), "--seeds", "1", "2", "--budget", str(budget)]
    benchmark.main(["study", *options])
    return read_study(output / "study.yaml")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("accelerators"), 0.25)


@pytest.fixture(scope="module")
def full() -> dict[str, int]:
    return {name: int(options["max_epoch"]) for name, options in benchmark.plain_stages().items()}


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_a_pipeline(arm: str, study: Study, tmp_path: Path) -> None:
    units = [unit for unit in select(study, Wanted(arms=[arm])) if unit.arm == arm]
    assert [unit.seed for unit in units] == ([1, 2, 3] if arm == BASE else [1, 2])
    path = tmp_path / "arm.yaml"
    path.write_text(yaml.safe_dump(pipeline_yaml(study, units[0])))
    config = load_configuration(study, units[0], path)
    plain = benchmark.plain_stages()
    assert [stage.name for stage in make_plan(config)] == planned(ARMS[arm], plain)
    for name, options in config.train_stages.items():
        build_accelerators(options["accelerators"])
        before = plain.get(name, {})
        differs = {key for key in options if options[key] != before.get(key, "absent")}
        assert not options["specaug"] or options["specaug_conf"]["stretch_multiple"] == 16
        assert bool(differs - {"max_epoch", "specaug_conf"}) == (name in ARMS[arm].options), name
    for name in TIMED if ARMS[arm].codes else ():
        repa = config.train_stages[name]["accelerators"].get("repa")
        assert (repa is None) == (name == "full_sum")
        assert repa is None or repa["codes"] == str(study.codes(units[0]))


@pytest.mark.parametrize("budget", [0.25, 0.5])
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_costs_what_the_base_costs(arm: str, budget: float, full: dict[str, int]) -> None:
    found = epochs(arm, timed(RATIO), full, budget)
    base = epochs(BASE, timed(RATIO), full, budget)
    assert base == {stage: max(1, round(count * budget)) for stage, count in full.items()}
    if ARMS[arm].equal_epochs:
        assert found == base
        return
    ratios = {stage: RATIO if stage in changed_stages(ARMS[arm]) else 1.0 for stage in TIMED}
    cost = sum(found[stage] * SECONDS[stage] * ratios[stage] for stage in TIMED)
    if ARMS[arm].first is not None:
        cost += found[ARMS[arm].first[0]] * SECONDS["align"] * RATIO
    whole = ARMS[arm].time * sum(base[stage] * SECONDS[stage] for stage in TIMED)
    assert abs(cost - whole) <= SECONDS["full_sum"] / 2 + 1e-9
    assert found["mbr"] == base["mbr"]


def test_saved_time_goes_where_it_should(full: dict[str, int]) -> None:
    base, found = (epochs(arm, timed(RATIO), full, 0.5) for arm in (BASE, "stacked"))
    assert {name: found[name] - base[name] for name in base} == {
        "align": 0, "viterbi": 0, "mbr": 0,
        "full_sum": round(0.3 * 20 * 1.0 / 1.3),  # 0.3 of 20 epochs of 1 s, in those of 1.3 s
    }  # fmt: skip


def test_the_study_trains_these_epochs(study: Study, full: dict[str, int]) -> None:
    for unit in select(study, Wanted(seeds=[1])):
        assert planned_stages(study, unit) == epochs(unit.arm, timed(RATIO), full, 0.25)


def test_the_base_is_the_recipe_but_for_the_step_of_its_stretch(study: Study) -> None:
    ours = read_study(benchmark.STUDY)
    assert study.results != ours.results
    (unit,) = select(study, Wanted(arms=[BASE], seeds=[1]))
    found, recipe = (read_yaml(write_configuration(each, unit)) for each in (study, ours))
    assert found["base"].pop("specaug_conf") == {"stretch_multiple": 16}
    assert found == recipe


def test_every_accelerator_has_an_arm_and_every_control_is_one() -> None:
    used = {
        name
        for arm in ARMS.values()
        for options in arm.options.values()
        for name in options.get("accelerators") or {}
    }
    elsewhere = {"distill"}  # benchmarks/continue_arms.py
    built_in = {name for name in accelerator_names() if "of_this_test" not in name}
    assert used | elsewhere == built_in
    assert {control for arm in ARMS.values() for control in arm.control} <= set(ARMS)


def test_the_model_that_is_scored_is_the_arms(study: Study) -> None:
    stages = {
        arm: study.arm(arm)["change"]["train_stages"]["mbr"]["accelerators"]
        for arm in ("sparse", "sparse_all", "sparse_static", "fake_bits", "float32_epochs")
    }
    for arm in ("sparse", "sparse_all", "sparse_static"):
        assert stages[arm]["sparse"] == {"sparsity": 0.8, "explore": "none"}  # keeps its own
    assert stages["fake_bits"] == stages["float32_epochs"] == {"precision": None}


def test_the_control_of_stacking_has_new_blocks_and_nothing_else(study: Study) -> None:
    starts = [
        study.arm(arm)["change"]["train_stages"]["viterbi"]["init_from"]
        for arm in ("stacked", "not_stacked")
    ]
    assert [start["stage"] for start in starts] == ["align", "align"]
    assert starts[1]["exclude"] == ["specaug", "encoder.encoders."]


def test_without_times_of_its_own_a_study_has_the_kept_ones(
    tmp_path: Path, full: dict[str, int]
) -> None:
    output = tmp_path / "new"
    benchmark.main(["study", "--output", str(output), "--budget", "0.25"])
    study = read_study(output / "study.yaml")
    steps = json.loads(benchmark.STEPS.read_text())
    for unit in select(study, Wanted(seeds=[1])):
        assert planned_stages(study, unit) == epochs(unit.arm, steps, full, 0.25)


def test_rates_are_scaled(study: Study) -> None:
    changed = study.arm("lion")["change"]["train_stages"]["align"]["scheduler_conf"]
    assert changed["peak_lr"] == pytest.approx(2.4e-4)


def test_an_arm_that_was_not_timed_is_named(full: dict[str, int]) -> None:
    steps = timed(RATIO)
    del steps["align"]["rep_conv"]
    with pytest.raises(ValueError, match="rep_conv in align was not timed; run steps --arms rep"):
        epochs("rep_conv", steps, full, 0.5)
    with pytest.raises(ValueError, match=f"{BASE} in align was not timed"):
        epochs("rep_conv", {}, full, 0.5)
    del steps["align"]["ticket/search"]
    with pytest.raises(ValueError, match=r"ticket/search in align .* --arms ticket$"):
        epochs("ticket", steps, full, 0.5)


def test_impossible_budgets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for budget in ("0", "1.5"):
        with pytest.raises(SystemExit):
            benchmark.main(["study", "--output", str(tmp_path), "--budget", budget])
        assert "a share of the recipe's epochs" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_espnet_accepts_every_arm(arm: str, tmp_path: Path) -> None:
    """As the check before a training: parser, model, optimizer, accelerators attached."""
    from espnet_plugin.jobs.check_config import check_stage

    tokens = tmp_path / "tokens.txt"
    tokens.write_text("".join(f"{t}\n" for t in ["<blank>", "<unk>", *"abc", "<sos/eos>"]))
    for name, section in benchmark.arm_stages(ARMS[arm], tmp_path).items():
        if name not in ARMS[arm].options and arm != BASE:
            continue
        path = tmp_path / f"{name}.yaml"
        options = {**espnet_options(section), "loss": section["loss"], "normalize": None}
        path.write_text(yaml.safe_dump({**options, "input_size": 26}))
        given = ["--config", str(path), "--token_list", str(tokens), "--token_type", "char"]
        assert check_stage(name, [*given, "--output_dir", str(tmp_path / "exp")]), name


@pytest.mark.slow
def test_steps_are_timed_beside_the_bases(tmp_path: Path) -> None:
    arguments = ["steps", "--output", str(tmp_path), "--arms", "ticket", "repa"]
    benchmark.main([*arguments, "--stages", "align", "--repeats", "2"])
    found = json.loads((tmp_path / "steps.json").read_text())["align"]
    assert set(found) == {BASE, "small", "ticket/search", "repa"}
    assert found[BASE]["ratio"] == 1.0
    for one in found.values():
        assert one["seconds"] == pytest.approx(one["ratio"] * found[BASE]["seconds"])
