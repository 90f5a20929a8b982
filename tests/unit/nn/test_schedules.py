"""Learning-rate curves as tables of (step, value), and as ESPnet schedulers."""

from __future__ import annotations

import pytest
import torch

from espnet_plugin.nn.rate_curves import constant_linear_decay, one_cycle_linear, piecewise_linear

ONE_CYCLE = {"total_steps": 100, "initial_lr": 8e-5, "peak_lr": 8e-4, "final_lr": 1e-6}
CONSTANT = {"total_steps": 100, "initial_lr": 8e-5, "decayed_lr": 1e-5, "final_lr": 1e-6}


@pytest.mark.parametrize(
    ("step", "value"),
    [(0, 8e-5), (22.5, 4.4e-4), (45, 8e-4), (67.5, 4.4e-4), (90, 8e-5), (100, 1e-6), (500, 1e-6)],
)
def test_one_cycle_is_the_papers(step, value):
    assert one_cycle_linear(step, **ONE_CYCLE) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "value"),
    [(0, 8e-5), (46, 8e-5), (69, 4.5e-5), (92, 1e-5), (96, 5.5e-6), (100, 1e-6), (101, 1e-6)],
)
def test_constant_linear_decay_is_the_papers(step, value):
    assert constant_linear_decay(step, **CONSTANT) == pytest.approx(value, rel=1e-12)


def test_constant_alone_is_the_mbr_stages():
    rates = {
        constant_linear_decay(s, **CONSTANT | {"constant": 1.0, "decay": 0.0}) for s in range(200)
    }
    assert rates == {8e-5}


def test_curves_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match="sum to at most 1"):
        one_cycle_linear(1, **ONE_CYCLE, up=0.7, down=0.6)
    with pytest.raises(ValueError, match="total_steps"):
        one_cycle_linear(1, **ONE_CYCLE | {"total_steps": 0})
    with pytest.raises(ValueError, match="learning rates"):
        constant_linear_decay(1, **CONSTANT | {"final_lr": -1.0})
    with pytest.raises(ValueError, match="decrease"):
        piecewise_linear(1, [(2.0, 1.0), (1.0, 1.0)])


def make(total_steps=None):
    from espnet_plugin.tasks.schedulers import OneCycleLinear

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=123.0)
    conf = {k: v for k, v in ONE_CYCLE.items() if k != "total_steps"}
    return optimizer, OneCycleLinear(optimizer, total_steps=total_steps, **conf)


def test_scheduler_follows_the_curve_and_resumes_in_the_middle():
    from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler

    optimizer, scheduler = make()
    assert isinstance(scheduler, AbsBatchStepScheduler)  # else ESPnet steps it once an epoch
    scheduler.set_total_steps(100)
    seen = []
    for step in range(60):
        seen.append(optimizer.param_groups[0]["lr"])
        assert seen[-1] == pytest.approx(one_cycle_linear(step, **ONE_CYCLE))
        optimizer.step()
        scheduler.step()
    other_optimizer, other = make()
    other.set_total_steps(100)
    other.load_state_dict(scheduler.state_dict())
    for step in range(60, 120):
        rate = other_optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(one_cycle_linear(step, **ONE_CYCLE))
        other_optimizer.step()
        other.step()


def test_a_total_in_the_configuration_wins():
    optimizer, scheduler = make(total_steps=10)
    scheduler.set_total_steps(1000)
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-6)


def test_updates_per_epoch_counts_what_espnet_does():
    from types import SimpleNamespace

    from espnet_plugin.tasks.trainer import updates_per_epoch

    assert updates_per_epoch(SimpleNamespace(num_iters_per_epoch=10, sampler=[0] * 99), 3) == 3
    assert updates_per_epoch(SimpleNamespace(num_iters_per_epoch=None, sampler=[0] * 9), 1) == 9
    with pytest.raises(ValueError, match="total_steps"):
        updates_per_epoch(SimpleNamespace(num_iters_per_epoch=None), 1)
