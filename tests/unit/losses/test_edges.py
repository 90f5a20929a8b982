"""Losses where tensors hold NaN, -inf or small integers, and second derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from espnet_plugin.losses import (
    ctc_loss,
    encoder_full_sum_loss,
    full_sum_loss,
    fused_full_sum_loss,
    simple_full_sum_loss,
)
from espnet_plugin.nn import JointNetwork

LENGTHS, LABELS = torch.tensor([6, 3]), torch.tensor([3, 1])


@pytest.fixture
def joint() -> JointNetwork:
    torch.manual_seed(0)
    return JointNetwork(4, 5, 6, 7).double()


def tensors(*, padding: float) -> tuple[Tensor, Tensor, Tensor]:
    """encoder [2, 6, 4], prediction [2, 4, 5], targets [2, 3], whose second sequence is padded."""
    torch.manual_seed(1)
    encoder, prediction = torch.randn(2, 6, 4).double(), torch.randn(2, 4, 5).double()
    encoder[1, 3:], prediction[1, 2:] = padding, padding
    return (
        encoder.requires_grad_(),
        prediction.requires_grad_(),
        torch.tensor([[1, 2, 3], [4, 0, 0]]),
    )


def losses(name: str, joint: JointNetwork, padding: float) -> tuple[Tensor, list[Tensor]]:
    """A loss, and the tensors it depends on."""
    encoder, prediction, targets = tensors(padding=padding)
    parts = [encoder, prediction, *joint.parameters()]
    if name == "fused":
        return fused_full_sum_loss(encoder, prediction, joint, targets, LENGTHS, LABELS), parts
    am, lm = (x @ torch.ones(x.shape[2], 7).double().cumsum(1) for x in (encoder, prediction))
    if name == "simple":
        return simple_full_sum_loss(am, lm, targets, LENGTHS, LABELS), [encoder, prediction]
    function: Callable[..., Tensor] = ctc_loss if name == "ctc" else encoder_full_sum_loss
    weight = torch.linspace(-1, 1, 28).view(4, 7).double().requires_grad_()
    return function(encoder @ weight, targets, LENGTHS, LABELS), [encoder, weight]


@pytest.mark.parametrize("name", ["fused", "simple", "encoder", "ctc"])
def test_nan_in_the_padding_reaches_no_gradient(name: str, joint: JointNetwork) -> None:
    clean = torch.autograd.grad(*losses(name, joint, 0.0), allow_unused=True)
    dirty = torch.autograd.grad(*losses(name, joint, math.nan), allow_unused=True)
    for wanted, found in zip(clean, dirty, strict=True):
        assert (wanted is None) == (found is None)
        if wanted is not None:
            # the caller's own layers stand between the loss and its padding
            rows = found.dim() == 3
            found, wanted = (x[0] if rows else x for x in (found, wanted))
            if name in ("fused", "simple") or rows:
                torch.testing.assert_close(found, wanted)


def test_a_broken_joint_gives_a_broken_gradient(joint: JointNetwork) -> None:
    """By which ESPnet's Trainer and gradient scalers know that the update must be skipped."""
    with torch.no_grad():
        joint.output.bias[0] = math.nan
    loss, parts = losses("fused", joint, 0.0)
    assert loss.isnan()
    assert any(grad.isnan().any() for grad in torch.autograd.grad(loss, parts))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16])
@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_sums_of_small_integers_do_not_wrap_around(dtype: torch.dtype, topology: str) -> None:
    torch.manual_seed(2)
    frames, labels = (100, 50) if dtype == torch.int8 else (200, 100)
    logits = torch.randn(1, frames, labels + 1, 3)
    targets = torch.randint(1, 3, (1, labels))
    lengths = (torch.tensor([frames]), torch.tensor([labels]))
    wanted = full_sum_loss(logits, targets, *lengths, topology=topology)
    small = (length.to(dtype) for length in lengths)
    assert full_sum_loss(logits, targets, *small, topology=topology) == wanted


def test_fused_gradient_with_255_labels_in_a_byte() -> None:
    joint = JointNetwork(2, 2, 2, 3)
    encoder = torch.randn(1, 255, 2, requires_grad=True)
    targets = torch.ones(1, 255, dtype=torch.uint8)
    lengths = torch.tensor([255], dtype=torch.uint8)
    fused_full_sum_loss(
        encoder, torch.randn(1, 256, 2), joint, targets, lengths, lengths
    ).backward()
    assert encoder.grad is not None and encoder.grad.abs().sum() > 0


def test_second_derivatives_are_refused(joint: JointNetwork) -> None:
    encoder, targets, lengths, target_lengths = torch.randn(1, 4, 3), torch.tensor([[1]]), [4], [1]
    size = (torch.tensor(lengths), torch.tensor(target_lengths))
    logits = torch.randn(1, 4, 2, 3, requires_grad=True)
    for loss, inputs in (
        (full_sum_loss(logits, targets, *size), logits),
        (encoder_full_sum_loss(encoder.requires_grad_(), targets, *size), encoder),
        losses("fused", joint, 0.0),
    ):
        with pytest.raises(RuntimeError, match="differentiated only once"):
            torch.autograd.grad(loss, inputs, create_graph=True)


def test_ctc_with_symbols_of_probability_zero() -> None:
    impossible = torch.tensor([[[0.0, -math.inf]] * 3])
    arguments = (torch.tensor([[1]]), torch.tensor([3]), torch.tensor([1]))
    assert ctc_loss(impossible, *arguments, reduction="none").tolist() == [math.inf]
    with pytest.raises(ValueError, match="no alignment"):
        ctc_loss(impossible, *arguments, infeasible="error")
    logits = torch.zeros(1, 3, 3)
    logits[0, 1, 2] = -math.inf
    logits.requires_grad_()
    loss = ctc_loss(logits, *arguments)
    loss.backward()
    # of three frames, with thirds and once halves: 1, 01, 001, ... (label loops merged)
    paths = {(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)} - {(0, 0, 0), (1, 0, 1)}
    assert float(loss) == pytest.approx(-math.log(len(paths) / 3 / 2 / 3), rel=1e-5)
    assert logits.grad is not None and logits.grad.isfinite().all()
