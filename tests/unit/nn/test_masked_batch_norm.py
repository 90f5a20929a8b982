"""Batch statistics without padding, against torch's own batch norm on the frames that count."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from espnet_plugin.nn.masked_batch_norm import MaskedBatchNorm1d, mask_batch_norm

LENGTHS = torch.tensor([6, 2, 4])


def batch():
    torch.manual_seed(0)
    values = 3 + 2 * torch.randn(3, 5, 6, dtype=torch.float64)
    mask = (torch.arange(6) < LENGTHS[:, None])[:, None]  # [B, 1, T]
    return values.masked_fill(~mask, 50.0), mask


def pair():
    torch.manual_seed(1)
    plain = nn.BatchNorm1d(5, momentum=0.3).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    masked = MaskedBatchNorm1d(5, momentum=0.3).double()
    masked.load_state_dict(plain.state_dict())
    return plain, masked


def test_value_gradient_and_statistics_are_those_of_the_frames():
    plain, masked = pair()
    values, mask = batch()
    rows = values.transpose(1, 2)[mask[:, 0]].requires_grad_()  # [frames, C]
    wanted = plain(rows)
    inputs = values.clone().requires_grad_()
    masked.mask = mask
    found = masked(inputs).transpose(1, 2)[mask[:, 0]]
    torch.testing.assert_close(found, wanted)
    weights = torch.randn_like(wanted)
    (wanted * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(inputs.grad.transpose(1, 2)[mask[:, 0]], rows.grad)
    assert not inputs.grad.transpose(1, 2)[~mask[:, 0]].any()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(masked.state_dict()[name], value)
    torch.testing.assert_close(masked.weight.grad, plain.weight.grad)


def test_without_padding_and_in_evaluation_it_is_plain():
    plain, masked = pair()
    values, mask = batch()
    masked.mask = torch.ones_like(mask)
    torch.testing.assert_close(masked(values), plain(values))
    masked.mask = mask
    torch.testing.assert_close(masked.eval()(values), plain.eval()(values))


def test_a_layer_without_batch_norm_is_refused():
    module = nn.Module()
    module.norm = nn.LayerNorm(3)
    with pytest.raises(ValueError, match="found LayerNorm"):
        mask_batch_norm(module)


@pytest.mark.parametrize("conv_first", [True, False])
def test_statistics_of_the_encoder_leave_short_windows_padding_out(conv_first):
    """At ae537cc the padding of short last windows was in them."""
    from espnet_plugin.nn.encoder import ProgressiveConformerEncoder
    from tests.unit.models.test_progressive import ENCODER

    sizes = {**ENCODER, "vgg_channels": (2, 2, 2), "conv_first": conv_first, "dropout_rate": 0.0}
    torch.manual_seed(0)
    encoder = ProgressiveConformerEncoder(8, **sizes, masked_batch_norm=True).train()
    plain = ProgressiveConformerEncoder(8, **sizes)
    assert encoder.state_dict().keys() == plain.state_dict().keys()
    seen = []
    norm = encoder.encoders[0].conv_module.norm
    norm.register_forward_hook(lambda _, args, __: seen.append(args[0].detach()))
    encoder(torch.randn(2, 64, 8), torch.tensor([64, 20]))
    ((inputs),) = seen
    frames = torch.cat([inputs[0, :, :16], inputs[1, :, :5]], dim=1)  # [C, frames that count]
    torch.testing.assert_close(norm.running_mean, 0.1 * frames.mean(1), atol=1e-6, rtol=1e-5)
    wanted = 0.9 + 0.1 * frames.var(1)
    torch.testing.assert_close(norm.running_var, wanted, atol=1e-6, rtol=1e-5)
    assert norm.mask is None
