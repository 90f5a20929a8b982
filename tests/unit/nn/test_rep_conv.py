"""`rep_conv`: branches of a depthwise convolution, and the plain kernel that files hold."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from espnet_plugin.nn.accelerators import AttachedAccelerators, Host
from espnet_plugin.nn.accelerators.hiding import NAME
from espnet_plugin.nn.accelerators.rep_conv import Branches
from tests.unit.nn.test_accelerators import Model as NoConvolution

CHANNELS, SIZE = 6, 7


class Model(nn.Module):
    """Two blocks with a depthwise convolution and a pointwise one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        depthwise = (nn.Conv1d(CHANNELS, CHANNELS, SIZE, padding=3, groups=CHANNELS) for _ in "ab")
        self.encoders = nn.ModuleList(
            nn.Sequential(conv, nn.Conv1d(CHANNELS, CHANNELS, 1)) for conv in depthwise
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.encoders:
            x = x + block(x).tanh()
        return x


def attached(model: nn.Module, seed: int = 1, **options: Any) -> AttachedAccelerators:
    host = Host(model, list(model.encoders), "full_sum", seed)
    return AttachedAccelerators({"rep_conv": options}, host)


def steps(model: nn.Module, count: int = 3) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    torch.manual_seed(4)
    for _ in range(count):
        optimizer.zero_grad()
        (model(torch.randn(2, CHANNELS, 20)) - 1.0).square().mean().backward()
        optimizer.step()
    return optimizer


def test_the_kernel_is_the_sum_of_separate_branches() -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(CHANNELS, CHANNELS, SIZE, padding=3, groups=CHANNELS, bias=False).double()
    branches = Branches(conv.weight, [5, 3], (True, True), 0.25, True, torch.Generator())
    branches.factors.data.normal_()
    x = torch.randn(2, CHANNELS, 30, dtype=torch.float64)
    depthwise = nn.functional.conv1d
    average = torch.full((CHANNELS, 1, SIZE), 1.0 / SIZE, dtype=torch.float64)
    factors = branches.factors[:, :, :, 0]  # [branches, C, 1]: two kernels, identity, mean
    expected = (
        conv(x)
        + factors[0] * depthwise(x, branches.kernels[0], padding=2, groups=CHANNELS)
        + factors[1] * depthwise(x, branches.kernels[1], padding=1, groups=CHANNELS)
        + factors[2] * x
        + factors[3] * depthwise(x, average, padding=3, groups=CHANNELS)
    )
    found = depthwise(x, conv.weight + branches(), padding=3, groups=CHANNELS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_gradients_reach_kernels_and_factors() -> None:
    kernel = torch.zeros(2, 1, 5, dtype=torch.float64)
    branches = Branches(kernel, [3], (True, True), 0.5, True, torch.Generator())
    names = [name for name, _ in branches.named_parameters()]

    def of(*values: torch.Tensor) -> Any:
        return torch.func.functional_call(branches, dict(zip(names, values, strict=True)))

    assert torch.autograd.gradcheck(of, tuple(branches.parameters()))


def test_it_begins_as_the_plain_model_and_then_leaves_it() -> None:
    plain, model = Model(), Model()
    attached(model)
    x = torch.randn(2, CHANNELS, 20)
    torch.testing.assert_close(model(x), plain(x), rtol=0, atol=1e-6)
    steps(plain), steps(model)
    assert (model(x) - plain(x)).abs().max() > 1e-3


def test_factors_of_zero_that_stay_zero_are_bitwise_plain() -> None:
    plain, model = Model(), Model()
    attached(model, scale=0.0, train_scale=False)
    steps(plain), steps(model)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_files_hold_the_plain_kernel() -> None:
    plain, model = Model(), Model()
    attached(model)
    steps(model)
    states = model.state_dict()
    assert list(states) == list(plain.state_dict())
    assert list(states._metadata) == list(plain.state_dict()._metadata)
    plain.load_state_dict(states)
    x = torch.randn(2, CHANNELS, 20)
    assert torch.equal(model(x), plain(x))
    assert any(NAME in name for name, _ in model.named_parameters())  # and the optimizer has them


def test_a_plain_file_is_loaded_whatever_the_branches_are() -> None:
    other, model = Model(), Model()
    steps(other)
    attached(model)
    steps(model, 1)
    model.load_state_dict(other.state_dict())
    x = torch.randn(2, CHANNELS, 20)
    torch.testing.assert_close(model(x), other(x), rtol=0, atol=1e-6)
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict({**other.state_dict(), "encoders.0.0.weight": torch.zeros(6, 1, 3)})


def test_private_state_gives_back_branches_to_the_bit() -> None:
    model, resumed = Model(), Model()
    accelerators, others = attached(model), attached(resumed, seed=2)  # that begin elsewhere
    optimizer = steps(model)
    kept = copy.deepcopy([model.state_dict(), accelerators.state_dict(), optimizer.state_dict()])
    again = torch.optim.Adam(resumed.parameters(), 0.05)
    resumed.load_state_dict(kept[0])
    others.load_state_dict(kept[1])
    again.load_state_dict(kept[2])
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="of accelerators none, but the stage has rep_conv"):
        others.load_state_dict({})


def test_the_average_of_files_is_the_average_of_kernels() -> None:
    model = Model()
    attached(model)
    kernels = []
    for count in (1, 2):
        steps(model, count)
        conv = model.encoders[0][0]
        # what the convolution computes: its answer to a unit impulse, mirrored
        impulse = torch.zeros(1, CHANNELS, SIZE)
        impulse[:, :, SIZE // 2] = 1.0
        answer = (conv(impulse) - conv.bias[:, None]).flip(2)[0]
        kernels.append((model.state_dict()["encoders.0.0.weight"].clone(), answer))
    average = sum(saved for saved, _ in kernels) / 2
    torch.testing.assert_close(average[:, 0], sum(used for _, used in kernels) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": [9]}, "kernel 9 does not fit into the convolution's 7"),
        ({"kernels": [4]}, "odd numbers"),
        ({"kernels": [], "identity": False, "average": False}, "no branch left"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"accelerators.rep_conv: .*{message}"):
        attached(Model(), **options)


def test_an_encoder_without_convolutions_is_refused() -> None:
    with pytest.raises(ValueError, match="no depthwise convolution"):
        attached(NoConvolution())
