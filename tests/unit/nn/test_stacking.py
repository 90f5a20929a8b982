"""Blocks of a shallow model as the first blocks of a deeper one."""

from __future__ import annotations

import pytest
import torch

from espnet_plugin.nn.stacking import stack_blocks
from espnet_plugin.pipeline.plan.inputs import stacked_start


def states() -> dict[str, torch.Tensor]:
    return {
        "encoder.embed.weight": torch.tensor([7.0]),
        "encoder.encoders.0.a.weight": torch.tensor([1.0]),
        "encoder.encoders.0.norm.running_mean": torch.tensor([2.0]),
        "encoder.encoders.1.a.weight": torch.tensor([3.0]),
        "encoder.encoders.1.norm.running_mean": torch.tensor([4.0]),
        "ctc.ctc_lo.bias": torch.tensor([9.0]),
    }


def test_two_blocks_become_four_by_name_and_value() -> None:
    found = stack_blocks(states(), [0, 0, 1, 1])
    a, mean = ".a.weight", ".norm.running_mean"
    assert {name: float(value) for name, value in found.items()} == {
        "encoder.embed.weight": 7.0,
        "ctc.ctc_lo.bias": 9.0,
        **{f"encoder.encoders.{i}{a}": v for i, v in enumerate((1.0, 1.0, 3.0, 3.0))},
        **{f"encoder.encoders.{i}{mean}": v for i, v in enumerate((2.0, 2.0, 4.0, 4.0))},
    }
    # copies, not views of one another
    found[f"encoder.encoders.0{a}"] += 1
    assert float(found[f"encoder.encoders.1{a}"]) == 1.0


def test_all_blocks_in_order_is_the_model_itself() -> None:
    found = stack_blocks(states(), [0, 1])
    assert found.keys() == states().keys()
    assert all(torch.equal(found[name], value) for name, value in states().items())


def test_a_model_without_those_blocks_is_named(tmp_path) -> None:
    torch.save(states(), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model.pth: blocks \[0, 2\].* 0 to 1, not \[2\]"):
        stacked_start(tmp_path / "model.pth", [0, 2], tmp_path / "out.pth")
    with pytest.raises(ValueError, match="nothing to stack"):
        stack_blocks({}, [0])
    target = stacked_start(tmp_path / "model.pth", [1], tmp_path / "new" / "out.pth")
    loaded = torch.load(target, weights_only=True)
    assert float(loaded["encoder.encoders.0.a.weight"]) == 3.0
    assert [path.name for path in target.parent.iterdir()] == ["out.pth"]
