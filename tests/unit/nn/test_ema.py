"""`accelerators.ema`: the average by its formula, where it is, resume, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from espnet_plugin.nn.accelerators import AttachedAccelerators, Host, build_accelerators


class Model(nn.Module):
    """A linear layer, a batch norm and a counter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
        y: torch.Tensor = self.norm(self.linear(x))
        return y


class Training:
    """A model with its optimizer, as ESPnet trains it: epochs of three updates."""

    def __init__(self, **options: Any) -> None:
        self.model = Model()
        host = Host(self.model, [], "full_sum", seed=1)
        self.accelerators = AttachedAccelerators(options, host)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.accelerators.attach_optimizers([self.optimizer])
        self.seen: list[dict[str, torch.Tensor]] = []

    def epoch(self, number: int) -> dict[str, Any]:
        """Trains and saves; returns what the files of the epoch hold."""
        self.model.train()
        torch.manual_seed(number)
        for _ in range(3):
            self.optimizer.zero_grad()
            self.model(torch.randn(5, 3)).square().sum().backward()
            self.optimizer.step()
            self.seen.append(copy.deepcopy(self.model.state_dict()))
        private = copy.deepcopy(self.accelerators.state_dict())  # before validation
        self.model.eval()
        return copy.deepcopy(
            {
                "private": private,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def resume(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.accelerators.load_state_dict(saved["private"])


def test_the_files_have_the_average_by_its_formula() -> None:
    training = Training(ema={"decay": 0.4})
    saved = [training.epoch(number) for number in (1, 2)]
    average = {name: value.double() for name, value in training.seen[0].items()}
    for n, weights in enumerate(training.seen):
        decay = min(0.4, (1 + n) / (10 + n))
        for name, value in weights.items():
            average[name] += (1 - decay) * (value - average[name])
        if n == 2:
            after_one = {name: value.clone() for name, value in average.items()}
    for files, expected in ((saved[0], after_one), (saved[1], average)):
        for name in ("linear.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
            torch.testing.assert_close(files["model"][name].double(), expected[name])
    for name in ("steps", "norm.num_batches_tracked"):
        assert torch.equal(saved[1]["model"][name], training.seen[-1][name])


def test_training_itself_is_plain() -> None:
    plain, averaged = Training(), Training(ema={"decay": 0.9})
    for number in (1, 2, 3):
        plain.epoch(number)
        averaged.epoch(number)
    for one, other in zip(plain.seen, averaged.seen, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_decay_zero_is_bitwise_plain_in_every_file() -> None:
    plain, averaged = Training(), Training(ema={"decay": 0.0})
    for number in (1, 2):
        one, other = plain.epoch(number)["model"], averaged.epoch(number)["model"]
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_resumed_is_the_same_to_the_bit() -> None:
    whole = Training(ema={"decay": 0.7})
    first = whole.epoch(1)
    later = Training(ema={"decay": 0.7})
    later.model.train()
    later.resume(first)
    for number in (2, 3):
        one, two = whole.epoch(number), later.epoch(number)
        for part in ("model", "private"):
            flat = [
                value["ema"]["weights"] if part == "private" else value
                for value in (one[part], two[part])
            ]
            assert all(torch.equal(flat[0][name], flat[1][name]) for name in flat[0])
        assert one["private"]["ema"]["updates"] == two["private"]["ema"]["updates"] == 3 * number


def test_evaluation_in_between_and_before_the_first_update_changes_nothing() -> None:
    plain, training = Training(ema={"decay": 0.9}), Training(ema={"decay": 0.9})
    start = copy.deepcopy(training.model.state_dict())
    training.model.eval()
    assert all(torch.equal(start[name], v) for name, v in training.model.state_dict().items())
    plain.epoch(1)
    training.epoch(1)
    for mode in (True, False, False, True, True):
        training.model.train(mode)
    one, two = plain.epoch(2)["model"], training.epoch(2)["model"]
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_it_shows_its_decay() -> None:
    training = Training(ema={"decay": 0.999})
    training.epoch(1)
    assert training.accelerators.strength() == {"ema_decay": pytest.approx(3 / 12)}


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_impossible_decays_are_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"accelerators\.ema: decay is a share"):
        build_accelerators({"ema": {"decay": decay}})


def test_private_parameters_of_others_are_refused() -> None:
    model = Model()
    accelerators = AttachedAccelerators({"ema": {}}, Host(model, [], "full_sum", seed=1))
    private = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([*model.parameters(), private], lr=0.1)
    with pytest.raises(ValueError, match="trains private ones"):
        accelerators.attach_optimizers([optimizer])


def test_weights_of_another_model_are_refused() -> None:
    training = Training(ema={})
    state = training.accelerators.state_dict()
    del state["ema"]["weights"]["norm.bias"]
    with pytest.raises(ValueError, match="weights of another model"):
        training.accelerators.load_state_dict(state)
