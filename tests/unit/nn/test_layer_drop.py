"""`layer_drop`: what a running block adds, divided by its probability; one draw an update."""

from __future__ import annotations

import copy

import pytest
import torch

from espnet_plugin.nn.accelerators.base import Progress
from tests.unit.nn.test_accelerators import Model, attached, task_args


@pytest.mark.parametrize("conv_first", [True, False])
def test_rescaled_residuals_are_those_of_espnets_stochastic_depth(conv_first, monkeypatch):
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    if conv_first:  # which has no stochastic depth: scale what its branches give by hand
        expected_by = scaled_by_hand
    else:
        expected_by = espnets_stochastic_depth
        monkeypatch.setattr("torch.rand", lambda n: torch.ones(n))  # it keeps every block
    args = task_args(accelerators={"layer_drop": {"rescale": True}})
    args.encoder_conf |= {"conv_first": conv_first, "interctc_layer_idx": []}
    model = ProgressiveASRTask.build_model(args)
    plain = copy.deepcopy(model)
    ProgressiveASRTask.build_optimizers(args, model)
    (layer_drop,) = model.accelerators._by_name.values()
    layer_drop._probabilities = [0.75, 0.5]
    x, positions = torch.randn(1, 5, 8), torch.randn(1, 9, 8)
    for index, p in enumerate(layer_drop._probabilities):
        block, other = model.encoder.encoders[index], plain.encoder.encoders[index]
        mask = torch.ones(1, 1, 5, dtype=torch.bool)
        (found, _), _ = block.train()((x, positions), mask)
        expected = expected_by(other.train(), (x, positions), mask, p)
        torch.testing.assert_close(found, expected)
        (evaluated, _), _ = block.eval()((x, positions), mask)
        assert (found - evaluated).abs().max() > 1e-3


def espnets_stochastic_depth(block, inputs, mask, p):
    block.stochastic_depth_rate = 1.0 - p
    return block(inputs, mask)[0][0]


def scaled_by_hand(block, inputs, mask, p):
    x, positions = inputs
    x = x + 0.5 / p * block.feed_forward_macaron(block.norm_ff_macaron(x))
    x = x + 1.0 / p * block.conv_module(block.norm_conv(x), mask_pad=mask)
    normed = block.norm_mha(x)
    x = x + 1.0 / p * block.self_attn(normed, normed, normed, positions, mask)
    x = x + 0.5 / p * block.feed_forward(block.norm_ff(x))
    return block.norm_final(x)


def test_rescaling_unknown_blocks_is_refused():
    with pytest.raises(ValueError, match=r"layer_drop: rescale knows .* not those of Block"):
        attached(Model(), {"layer_drop": {"rescale": True}})


def test_all_batches_of_an_update_run_the_same_blocks() -> None:
    accelerators = attached(Model(), {"layer_drop": {"theta": 0.2, "warm": 20.0}})
    (layer_drop,) = accelerators._by_name.values()
    seen = {}
    for iteration in range(40):
        accelerators.before_batch(Progress(1, iteration, 40, 1, accum_grad=4))
        now = (layer_drop._kept, layer_drop._probabilities)
        assert seen.setdefault(iteration // 4, now) == now
    assert len({tuple(kept) for kept, _ in seen.values()}) > 1
