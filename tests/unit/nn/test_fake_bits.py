"""`precision` with few bits or float8: quantisers, the schedule's moves, what stays plain."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import pytest
import torch
from torch import nn

from espnet_plugin.nn.accelerators import AttachedAccelerators, Host, Progress, build_accelerators
from espnet_plugin.nn.accelerators.fake_bits import (
    LossIndicator,
    quantised,
    rounded_at_random,
    with_rounded_gradient,
)
from tests.unit.nn.test_accelerators import Model


def attached(model: nn.Module, **options: Any) -> AttachedAccelerators:
    host = Host(model, list(model.encoders), "full_sum", seed=1)  # type: ignore[arg-type]
    return AttachedAccelerators({"precision": options}, host)


def train(model: nn.Module, accelerators: AttachedAccelerators, epochs: int = 2) -> list[float]:
    """Epochs of three batches."""
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    model.train()
    for epoch in range(1, epochs + 1):
        torch.manual_seed(epoch)
        for number in range(3):
            accelerators.before_batch(Progress(epoch, number, 3, epochs))
            optimizer.zero_grad()
            loss = (model(torch.randn(5, 6)) - 1.0).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_rounding_to_the_nearest(bits: int) -> None:
    torch.manual_seed(bits)
    x = torch.randn(300)
    found = quantised(x, bits)
    most = 2 ** (bits - 1) - 1
    step = float(x.abs().max()) / most
    assert float((found - x).abs().max()) <= step / 2 * (1 + 1e-5)
    assert len(found.unique()) <= 2 * most + 1
    torch.testing.assert_close(found / step, (found / step).round(), rtol=0, atol=1e-2)
    torch.testing.assert_close(quantised(found, bits), found, rtol=1e-6, atol=0)  # once is enough
    assert quantised(torch.zeros(3), bits).tolist() == [0.0] * 3


def test_the_gradient_goes_straight_through() -> None:
    x = torch.randn(50, requires_grad=True)
    weights = torch.randn(50)
    (quantised(x, 4) * weights).sum().backward()
    assert torch.equal(x.grad, weights)  # type: ignore[arg-type]


def test_rounding_at_random_is_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.tensor([1.0, -0.61, 0.2, 0.0, 1 / 3])
    draws = torch.stack([rounded_at_random(x, 3, generator) for _ in range(10_000)])
    step = 1 / 3
    assert float((draws - x).abs().max()) < step * (1 + 1e-5)
    spread = draws.std(0) / 100  # of the mean of 10,000
    assert ((draws.mean(0) - x).abs() <= 4 * spread + 1e-6).all()
    assert float(draws[:, 0].std()) == float(draws[:, 3].std()) == 0.0  # values that there are


def test_a_gradient_arrives_with_few_bits() -> None:
    x = torch.randn(40, requires_grad=True)
    generator = torch.Generator().manual_seed(3)
    y = with_rounded_gradient(x, 3, generator)
    assert torch.equal(y, x)
    upstream = torch.randn(40)
    y.backward(upstream)
    expected = rounded_at_random(upstream, 3, torch.Generator().manual_seed(3))
    assert torch.equal(x.grad, expected)  # type: ignore[arg-type]
    assert len(expected.unique()) <= 7


@pytest.mark.parametrize("options", [{"fake_bits": 0}, {"fake_bits": 4, "until": 0.0}])
def test_no_bits_are_bitwise_plain(options: dict[str, Any]) -> None:
    plain, model = Model(), Model()
    nothing = AttachedAccelerators({}, Host(plain, list(plain.encoders), "full_sum", seed=1))
    assert train(plain, nothing) == train(model, attached(model, **options))
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_layer_computes_with_rounded_inputs_and_weights() -> None:
    model = Model()
    accelerators = attached(model, fake_bits=3)
    accelerators.before_batch(Progress(1, 0, 2, 1))
    linear, x = model.encoders[0].linear, torch.randn(5, 6)
    found = linear(x)
    expected = quantised(x, 3) @ quantised(linear.weight, 3).T + linear.bias
    torch.testing.assert_close(found, expected)
    assert accelerators.strength() == {"precision_low": 1.0, "precision_bits": 3.0}
    model.eval()  # validation is plain
    torch.testing.assert_close(linear(x), x @ linear.weight.T + linear.bias)
    assert linear.weight.unique().numel() == 36  # the weights themselves are floats


def test_files_are_the_plain_models() -> None:
    plain, model = Model(), Model()
    accelerators = attached(model, fake_bits=8, grad_bits=8)
    losses = train(model, accelerators, 8)
    assert losses[-1] < losses[0]
    assert list(model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(model.state_dict())
    model.eval(), plain.eval()
    x = torch.randn(4, 6)
    assert torch.equal(model(x), plain(x))
    assert not accelerators.state_dict()  # nothing that a resume needs


def test_a_table_of_losses_and_the_moves_they_make() -> None:
    indicator = LossIndicator(3, threshold=0.1, decay=0.5, window=3)
    # of 20 epochs: loss, and moves after it
    table = [
        *[(4.0, 0)] * 8,  # still, but the rate still rises
        (4.0, 1),  # epoch 9 of 20
        (3.0, 1),
        (2.9, 1),  # 4.0 is one of the two before
        (2.7, 1),  # 0.3 is more than 0.1 * 0.5 * 3.72
        (2.8, 2),  # 0.1 is not
        *[(2.8, 2)] * 7,  # there are no more entries
    ]
    for epoch, (loss, moves) in enumerate(table, 1):
        indicator.add(loss, epoch / 20)
        assert indicator.moves == moves, epoch


def test_the_last_entry_counts_at_the_end() -> None:
    indicator = LossIndicator(3)
    assert [indicator.entry(t) for t in (0.0, 0.5, 0.89, 0.9, 0.99)] == [0, 0, 0, 2, 2]


def test_losses_of_epochs_decide_and_are_resumed() -> None:
    options = {"fake_bits": [3, 8], "grad_bits": [4, 8], "threshold": 0.5, "window": 2}
    accelerators = attached(Model(), **options)
    shown = []
    for epoch in range(1, 11):
        accelerators.before_batch(Progress(epoch, 0, 3, 10))
        shown.append(accelerators.strength()["precision_bits"])
        accelerators.after_epoch(1.0, epoch / 10)
        if epoch == 5:
            saved = copy.deepcopy(accelerators.state_dict())
    assert shown == [3.0] * 5 + [8.0] * 5  # 0.5 is the first end of an epoch that may move
    later = attached(Model(), **options)
    later.load_state_dict(saved)
    later.before_batch(Progress(6, 0, 3, 10))
    assert later.strength()["precision_bits"] == 8.0
    assert later.state_dict() == saved


def test_gradients_are_drawn_from_seed_and_place_alone() -> None:
    gradients = []
    for state in (1, 2):
        model = Model()
        accelerators = attached(model, fake_bits=0, grad_bits=2)
        model.train()
        for block in model.encoders:
            block.dropout.p = 0.0
        accelerators.before_batch(Progress(2, 1, 3, 4))
        torch.manual_seed(state)
        model(torch.arange(30.0).view(5, 6) / 30).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert any(g.any() for g in gradients[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fake_bits": 1}, "fake_bits is a number of bits, 2 to 16"),
        ({"fake_bits": 17}, "fake_bits is a number of bits"),
        ({"fake_bits": 4.5}, "fake_bits is a number of bits"),
        ({"fake_bits": True}, "fake_bits is a number of bits"),
        ({"fake_bits": []}, "fake_bits is a number of bits"),
        ({"fake_bits": [4, 8], "grad_bits": [8]}, "needs 2 entries, as fake_bits has"),
        ({"fake_bits": 8, "autocast": "float8"}, "two precisions of one layer"),
        ({"fake_bits": [4, 8], "window": 1}, "window at least 2"),
        ({"fake_bits": [4, 8], "threshold": -0.1}, "threshold must not be negative"),
        ({"autocast": "float16"}, "must be one of float32, bfloat16, float8, auto"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build_accelerators({"precision": options})
    assert "accelerators.precision" in str(error.value)


class Wide(nn.Module):
    """A block whose sizes suit float8."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleList([nn.Sequential(nn.Linear(size, 64), nn.Linear(64, size))])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.encoders[0](x)
        return result


def test_float8_without_torchao_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"accelerators.precision: autocast float8 needs torchao"):
        attached(Wide(), autocast="float8")


def test_float8_on_a_processor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "there")
    with pytest.raises(ValueError, match=r"accelerators.precision: autocast float8 needs a GPU"):
        attached(Wide(), autocast="float8")


def test_float8_on_an_old_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from espnet_plugin.nn.accelerators.float8 import check_float8

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "there")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "RTX 3090")
    with pytest.raises(ValueError, match=r"8.9 .* this one, RTX 3090, has 8.6; take bfloat16"):
        check_float8(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    check_float8(torch.device("cuda"))


def test_float8_needs_sizes_of_a_multiple_of_16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espnet_plugin.nn.accelerators.precision.check_float8", lambda device: None)
    with pytest.raises(ValueError, match=r"no linear layer .* multiples of 16"):
        attached(Model(), autocast="float8")


def test_float8_emulated_trains_the_plain_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchao computes on a processor what a GPU would."""
    pytest.importorskip("torchao")
    from espnet_plugin.nn.accelerators import precision

    monkeypatch.setattr(precision, "check_float8", lambda device: None)
    plain_forward = precision.float8_forward
    monkeypatch.setattr(
        precision, "float8_forward", lambda linear: plain_forward(linear, emulate=True)
    )
    model, plain = Wide(), Wide()
    accelerators = attached(model, autocast="float8")
    x = torch.randn(16, 32)
    model.train()
    accelerators.before_batch(Progress(1, 0, 2, 1))
    found = model.encoders[0](x)  # without the processor's autocast, which torchao does not know
    apart = float((found - plain(x)).norm() / plain(x).norm())
    assert 1e-4 < apart < 0.1
    found.square().mean().backward()
    plain(x).square().mean().backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        cosine = torch.nn.functional.cosine_similarity(one.grad.flatten(), other.grad.flatten(), 0)  # type: ignore[union-attr]
        assert float(cosine) > 0.99
    assert list(model.state_dict()) == list(plain.state_dict())
    model.eval()
    assert torch.equal(model(x), plain(x))
