"""study.yaml: what it asks for, what is wrong with it, and the YAML of each training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.study.configuration import (
    configuration_hash,
    load_configuration,
    pipeline_yaml,
    planned_stages,
    training_code_hash,
    write_configuration,
)
from benchmarks.study.units import Study, Unit, Wanted, read_study, select
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.scheduler import make_plan
from tests.unit.benchmarks.fake_study import ROOT, make_study, study_of

OURS = ROOT / "benchmarks/study/study.yaml"


def unit(arm: str = "progressive", **change: Any) -> Unit:
    axes = {"corpus": "fake", "labels": "char", "size": "small", "budget": 0.5, "seed": 1}
    return Unit(**{**axes, "arm": arm, **change})


def test_a_part_of_an_arm_is_trained_once_and_seeds_come_in_turn(tmp_path: Path) -> None:
    study = read_study(make_study(tmp_path))
    names = [(one.seed, one.arm) for one in select(study, Wanted())]
    assert names == [(s, arm) for s in (1, 2) for arm in ("full_sum_only", "progressive")]
    assert unit().name == "fake-char-small-0.5-progressive-s1"


def test_what_an_arm_starts_from_comes_with_it(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    raw = yaml.safe_load(path.read_text())
    raw["grid"][0]["arms"] = ["from_aligner"]
    path.write_text(yaml.safe_dump(raw))
    found = select(read_study(path), Wanted(seeds=[3]))
    assert [one.arm for one in found] == ["from_aligner", "progressive"]
    assert {one.seed for one in found} == {3}


def test_arms_come_in_the_order_they_are_asked_for(tmp_path: Path) -> None:
    study = read_study(make_study(tmp_path))
    for arms in (["progressive", "full_sum_only"], ["full_sum_only", "progressive"]):
        found = select(study, Wanted(arms=arms, seeds=[1]))
        assert [one.arm for one in found] == arms


def test_epochs_are_scaled_and_the_aligners_encoder_is_taken(tmp_path: Path) -> None:
    study = study_of(make_study(tmp_path))
    assert planned_stages(study, unit()) == {"align": 2, "viterbi": 1, "full_sum": 4, "mbr": 1}
    assert planned_stages(study, unit(budget=0.01))["align"] == 1  # never none
    found = pipeline_yaml(study, unit("from_aligner", size="large", seed=7))
    assert found["base"] == {"seed": 7, "encoder_conf": {"a": 1}}
    assert found["train_stages"] == {
        "full_sum": {
            "max_epoch": 8,
            "init_from": {
                "model": str(tmp_path / "work/fake/exp/fake-char-large-0.5-progressive-s7/align"),
                "parts": ["encoder"],
            },
        }
    }
    merged = load_pipeline_config(write_configuration(study, unit("from_aligner", size="large")))
    assert merged.train_stages["full_sum"]["encoder_conf"] == {"output_size": 8, "a": 1}


def test_hash_of_options_sees_every_file_and_the_source(tmp_path: Path) -> None:
    study = study_of(make_study(tmp_path))
    of = {}
    for arm in ("progressive", "from_aligner"):
        of[arm] = configuration_hash(study, unit(arm), write_configuration(study, unit(arm)))
    recipe = tmp_path / "recipe/conf/progressive.yaml"
    recipe.write_text(recipe.read_text() + "alignment: {prior_scale: 0.3}\n")
    for arm, before in of.items():
        after = configuration_hash(study, unit(arm), write_configuration(study, unit(arm)))
        assert after != before, arm


def test_comments_and_docstrings_are_no_training_code(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text('"""Doc."""\n\n\ndef f(x):\n    """Doc."""\n    return x  # note\n')
    before = training_code_hash(["*.py"], tmp_path)
    code.write_text('"""Other."""\ndef f(x):\n    """Else."""\n\n    return x\n')
    assert training_code_hash(["*.py"], tmp_path) == before
    code.write_text("def f(x):\n    return 2 * x\n")
    assert training_code_hash(["*.py"], tmp_path) != before
    with pytest.raises(ValueError, match=r"no file of .* matches \*\.cc"):
        training_code_hash(["*.cc"], tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grids": []}, "unknown 'grids' .did you mean grid"),
        ({"seeds": []}, "seeds is missing or empty"),
        ({"arms": {"a": {"config": "x", "part_of": "a"}}}, "either config .* or part_of"),
        ({"arms": {"a": {"config": "x", "start": {"arm": "b"}}}}, "unknown 'b'"),
    ],
)
def test_mistakes_of_the_file_are_named(tmp_path: Path, change: Any, message: str) -> None:
    path = make_study(tmp_path, **change)
    with pytest.raises(ValueError, match=message) as error:
        read_study(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(arms=["progresive"]), r"--arm: unknown 'progresive' .did you mean progressive"),
        (Wanted(corpora=["an5"]), "--only: unknown 'an5'; known: fake"),
        (Wanted(sizes=["huge"]), "--size: unknown 'huge'"),
        (Wanted(budgets=[0.3]), "nothing of its grid"),
    ],
)
def test_what_is_not_in_the_study_is_named(tmp_path: Path, wanted: Wanted, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(read_study(make_study(tmp_path)), wanted)


def every_arm(study: Study) -> list[Unit]:
    """One training of each arm, at the place where the grid has it first."""
    found: dict[str, Unit] = {}
    for one in select(study, Wanted(seeds=[1])):
        found.setdefault(one.arm, one)
    return list(found.values())


def test_every_arm_of_our_study_has_a_valid_plan(tmp_path: Path) -> None:
    """Each is planned as the pipeline would, from a YAML below the test's folder."""
    raw = {**read_study(OURS).raw, "work": str(tmp_path)}
    study = Study(OURS, raw)
    arms = every_arm(study)
    assert {one.arm for one in arms} == {n for n, arm in raw["arms"].items() if "config" in arm}
    for one in arms:
        stages = make_plan(load_configuration(study, one, write_configuration(study, one)))
        epochs = planned_stages(study, one)
        assert [stage.name for stage in stages] == list(epochs), one
        assert all(s.options["seed"] == 1 for s in stages)
        assert {s.name: s.options["max_epoch"] for s in stages} == epochs
