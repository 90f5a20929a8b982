"""Budgets: steps and hours as epochs."""

from __future__ import annotations

import pytest

from espnet_plugin.pipeline.plan.budget import (
    Budget,
    epoch_seconds_from_probe,
    epochs_for_hours,
    epochs_for_steps,
    options_from_arguments,
    with_mappings,
)


@pytest.mark.parametrize(
    ("steps", "options", "epochs", "iters"),
    [
        (1000, {"num_iters_per_epoch": 100}, 10, 100),
        (1001, {"num_iters_per_epoch": 100}, 11, 100),
        (100, {"num_iters_per_epoch": 100, "accum_grad": 4}, 4, 100),
        # ESPnet drops the three iterations after the last whole accumulation of an epoch
        (100, {"num_iters_per_epoch": 103, "accum_grad": 4}, 4, 100),
        (100, {"max_epoch": 8}, 8, 13),
        (100, {"max_epoch": 8, "accum_grad": 3}, 8, 39),
        (3, {"max_epoch": 8}, 3, 1),
    ],
)
def test_steps(steps: int, options: dict[str, int], epochs: int, iters: int) -> None:
    found = epochs_for_steps(steps, options, "viterbi")
    assert found == {"max_epoch": epochs, "num_iters_per_epoch": iters}
    done = found["max_epoch"] * (found["num_iters_per_epoch"] // options.get("accum_grad", 1))
    assert done >= steps


def test_steps_need_to_know_what_an_epoch_is() -> None:
    with pytest.raises(ValueError, match="stage mbr: max_steps 9 needs num_iters_per_epoch"):
        epochs_for_steps(9, {}, "mbr")


def test_hours() -> None:
    assert epochs_for_hours(1.0, epoch_seconds=600, overhead_seconds=0) == 6
    assert epochs_for_hours(1.0, epoch_seconds=600, overhead_seconds=1) == 5
    assert epochs_for_hours(0.01, epoch_seconds=600, overhead_seconds=100) == 1
    # 20 of 200 iterations took 30 s, validation 50 s
    assert epoch_seconds_from_probe(30, 50, 20, 200) == pytest.approx(350)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"max_steps": 1, "hours": 1},
        {"hours": 1, "reference_hours": 1},
        {"reference_hours": 0},
        {"hours": -1},
        {"max_steps": 0},
    ],
)
def test_bad_budgets(kwargs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"got"):
        Budget(**kwargs)


def test_options_from_arguments() -> None:
    found = options_from_arguments(["--max_epoch", "3", "--optim_conf", "lr=1", "--x=5"])
    assert found == {"max_epoch": "3", "optim_conf": "lr=1", "x": "5"}


def test_mappings_of_the_command_line_go_into_those_of_the_yaml() -> None:
    options = {"encoder_conf": {"num_blocks": 12, "deep": {"a": 1, "b": 2}}, "max_epoch": 3}
    arguments = ["--encoder_conf", "num_blocks=2", "--max_epoch", "9"]
    arguments += ["--encoder_conf", "deep.a=[1, 2]", "--loss_conf", "{max_frames: 10}"]
    assert with_mappings(options, arguments) == {
        "encoder_conf": {"num_blocks": 2, "deep": {"a": [1, 2], "b": 2}},
        "loss_conf": {"max_frames": 10},
    }
    assert options["encoder_conf"] == {"num_blocks": 12, "deep": {"a": 1, "b": 2}}
