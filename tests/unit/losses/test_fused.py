"""The fused joint and loss against joint network and loss one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from espnet_plugin.losses import full_sum_loss, fused_full_sum_loss
from espnet_plugin.losses.engines.dropout_mask import DropoutMask
from espnet_plugin.losses.engines.fused_function import reachable_cells
from espnet_plugin.nn import JointNetwork
from tests.reference import transducer as reference

TOPOLOGIES = ["monotonic", "rnnt"]
LENGTHS = torch.tensor([9, 5, 6])
TARGET_LENGTHS = torch.tensor([4, 5, 0])
VOCAB = 21
TINY = 20_000  # bytes: several chunks even here


def make_batch(
    dtype: torch.dtype = torch.float64, activation: str = "tanh", scale: float = 1.0
) -> tuple[JointNetwork, Tensor, Tensor, Tensor]:
    """A joint network, encoder [3, 9, 7] and prediction [3, 6, 5] outputs, targets [3, 5]."""
    torch.manual_seed(4)
    joint = JointNetwork(7, 5, 16, VOCAB, activation=activation).to(dtype)
    encoder = scale * torch.randn(3, 9, 7, dtype=dtype)
    prediction = scale * torch.randn(3, 6, 5, dtype=dtype)
    targets = torch.randint(1, VOCAB, (3, 5))
    for b in range(3):
        targets[b, TARGET_LENGTHS[b] :] = -1
    return joint, encoder.requires_grad_(), prediction.requires_grad_(), targets


def gradients(loss: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    weights = torch.arange(1.0, 4.0, dtype=loss.dtype) if loss.ndim else 1.0
    return torch.autograd.grad((loss * weights).sum(), tensors)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
@pytest.mark.parametrize("budget", [None, TINY])
def test_equals_unfused(topology: str, reduction: str, activation: str, budget: int | None) -> None:
    joint, encoder, prediction, targets = make_batch(activation=activation)
    options: dict[str, Any] = {"topology": topology, "reduction": reduction}
    lengths = (targets, LENGTHS, TARGET_LENGTHS)
    wanted = full_sum_loss(joint(encoder[:, :, None], prediction[:, None]), *lengths, **options)
    loss = fused_full_sum_loss(
        encoder, prediction, joint, *lengths, memory_budget=budget, **options
    )
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    tensors = (encoder, prediction, *joint.parameters())
    for ours, theirs in zip(gradients(loss, *tensors), gradients(wanted, *tensors), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_value_equals_enumeration(topology: str) -> None:
    joint, encoder, prediction, targets = make_batch()
    losses = fused_full_sum_loss(
        encoder,
        prediction,
        joint,
        targets,
        LENGTHS,
        TARGET_LENGTHS,
        topology=topology,
        reduction="none",
    )
    logits = joint(encoder[:, :, None], prediction[:, None]).detach().numpy()
    for b in range(3):
        labels = int(TARGET_LENGTHS[b])
        wanted, _ = reference.enumerate_loss(
            logits[b, : LENGTHS[b], : labels + 1], targets[b, :labels].tolist(), 0, topology
        )
        assert losses[b].item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("regulariser", [{"fastemit_lambda": 0.3}, {"delay_penalty": 0.2}])
def test_regularisers_equal_unfused(topology: str, regulariser: dict[str, float]) -> None:
    joint, encoder, prediction, targets = make_batch()
    options: dict[str, Any] = {"topology": topology, "blank": 0, **regulariser}
    lengths = (targets, LENGTHS, TARGET_LENGTHS)
    wanted = full_sum_loss(joint(encoder[:, :, None], prediction[:, None]), *lengths, **options)
    loss = fused_full_sum_loss(encoder, prediction, joint, *lengths, **options)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    for ours, theirs in zip(
        gradients(loss, encoder, prediction), gradients(wanted, encoder, prediction), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradcheck() -> None:
    joint, encoder, prediction, targets = make_batch()

    def function(encoder: Tensor, prediction: Tensor, weight: Any, bias: Any) -> Tensor:
        # Plain tensors in the parameters' place, so that gradcheck can perturb them.
        joint.output.weight, joint.output.bias = weight, bias
        return fused_full_sum_loss(
            encoder, prediction, joint, targets, LENGTHS, TARGET_LENGTHS, memory_budget=TINY
        )

    weight = joint.output.weight.detach().clone().requires_grad_()
    bias = joint.output.bias.detach().clone().requires_grad_()
    del joint.output.weight, joint.output.bias
    assert torch.autograd.gradcheck(function, (encoder, prediction, weight, bias))


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_float32_follows_float64_even_when_saturated(scale: float) -> None:
    """Scale 30 drives tanh far past the range where it is computed from products."""
    results = []
    for dtype in (torch.float32, torch.float64):
        joint, encoder, prediction, targets = make_batch(torch.float64, scale=scale)
        joint = joint.to(torch.float32).to(dtype)  # the same rounded weights
        encoder, prediction = (
            x.detach().float().to(dtype).requires_grad_() for x in (encoder, prediction)
        )
        loss = fused_full_sum_loss(encoder, prediction, joint, targets, LENGTHS, TARGET_LENGTHS)
        results.append([x.double() for x in (loss, *gradients(loss, encoder, prediction))])
    for single, double in zip(*results, strict=True):
        torch.testing.assert_close(single, double, rtol=2e-5, atol=2e-6)


def test_skipping_negligible_cells_changes_less_than_rounding() -> None:
    """Confident scores leave most cells unoccupied; computing them all must not matter."""
    torch.manual_seed(0)
    joint = JointNetwork(8, 8, 32, 30)
    with torch.no_grad():
        joint.output.weight *= 12
    encoder = torch.randn(1, 60, 8, requires_grad=True)
    prediction = torch.randn(1, 16, 8, requires_grad=True)
    targets = torch.randint(1, 30, (1, 15))
    arguments = (encoder, prediction, joint, targets, torch.tensor([60]), torch.tensor([15]))
    tensors = (encoder, prediction, *joint.parameters())
    pruned = gradients(fused_full_sum_loss(*arguments), *tensors)
    full = gradients(fused_full_sum_loss(*arguments, negligible=0.0), *tensors)
    for ours, theirs in zip(pruned, full, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_dropout_is_the_same_in_both_passes(topology: str) -> None:
    """Against a grid whose hidden layer is multiplied by the very same mask."""
    joint, encoder, prediction, targets = make_batch()
    joint.dropout.p = 0.4
    joint.train()
    lengths = (targets, LENGTHS, TARGET_LENGTHS)
    torch.manual_seed(9)
    loss = fused_full_sum_loss(
        encoder, prediction, joint, *lengths, topology=topology, memory_budget=TINY
    )
    torch.manual_seed(9)
    mask = DropoutMask(0.4, 3 * 9, 3 * 6, 16, torch.device("cpu"))
    cells = torch.arange(3 * 9 * 6)
    frame_row = cells // 6
    factors = mask.factors(frame_row, frame_row // 9 * 6 + cells % 6, torch.float64)
    hidden = torch.tanh(
        joint.encoder_proj(encoder)[:, :, None] + joint.prediction_proj(prediction)[:, None]
    )
    logits = joint.output(hidden * factors.view(3, 9, 6, 16))
    wanted = full_sum_loss(logits, *lengths, topology=topology)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    tensors = (encoder, prediction, *joint.parameters())
    for ours, theirs in zip(gradients(loss, *tensors), gradients(wanted, *tensors), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_dropout_keeps_the_right_share_and_evaluation_has_none() -> None:
    torch.manual_seed(0)
    mask = DropoutMask(0.25, 50, 20, 64, torch.device("cpu"))
    rows = torch.cartesian_prod(torch.arange(50), torch.arange(20))
    factors = mask.factors(rows[:, 0], rows[:, 1], torch.float64)
    kept = factors > 0
    assert factors.unique().tolist() == pytest.approx([0.0, 4 / 3])
    # 64,000 units, of which 4,480 draws are independent: five standard deviations.
    assert abs(kept.double().mean().item() - 0.75) < 5 * (0.75 * 0.25 / 4480) ** 0.5
    pair = kept[:-1] & kept[1:]
    assert abs(pair.double().mean().item() - 0.75**2) < 0.04

    joint, encoder, prediction, targets = make_batch()
    joint.dropout.p = 0.4
    joint.eval()
    arguments = (encoder, prediction, joint, targets, LENGTHS, TARGET_LENGTHS)
    assert fused_full_sum_loss(*arguments).item() == fused_full_sum_loss(*arguments).item()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_reachable_cells_are_those_of_some_path(topology: str) -> None:
    lengths, target_lengths = torch.tensor([5, 3, 2]), torch.tensor([2, 3, 3])
    cells = reachable_cells(lengths, target_lengths, 5, 4, topology)
    for b in range(3):
        wanted = torch.zeros(5, 4, dtype=torch.bool)
        for path in reference.paths(int(lengths[b]), int(target_lengths[b]), topology):
            for t, u, _ in path:
                wanted[t, u] = True
        assert torch.equal(cells[b], wanted)


def test_autocast_uses_bfloat16_products_and_float32_sums() -> None:
    joint, encoder, prediction, targets = make_batch(torch.float32)
    arguments = (encoder, prediction, joint, targets, LENGTHS, TARGET_LENGTHS)
    exact = fused_full_sum_loss(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        loss = fused_full_sum_loss(*arguments)
    assert loss.dtype == torch.float32
    assert loss.item() != exact.item()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)
    tensors = (encoder, prediction, *joint.parameters())
    for ours, theirs in zip(gradients(loss, *tensors), gradients(exact, *tensors), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.1, atol=0.05 * theirs.abs().max().item())


def test_repeated_runs_are_bitwise_equal() -> None:
    runs = []
    for _ in range(2):
        joint, encoder, prediction, targets = make_batch(torch.float32)
        loss = fused_full_sum_loss(encoder, prediction, joint, targets, LENGTHS, TARGET_LENGTHS)
        runs.append((loss, *gradients(loss, encoder, prediction, *joint.parameters())))
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


def test_no_tensor_of_the_grids_size_is_ever_made() -> None:
    """A dispatch hook sees every tensor that an operation returns, in both passes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    batch, frames, labels, vocab = 2, 40, 10, 300
    joint = JointNetwork(8, 8, 12, vocab)
    encoder = torch.randn(batch, frames, 8, requires_grad=True)
    prediction = torch.randn(batch, labels + 1, 8, requires_grad=True)
    targets = torch.randint(1, vocab, (batch, labels))
    lengths = (torch.tensor([frames, 30]), torch.tensor([labels, 7]))
    with Watch():
        fused_full_sum_loss(
            encoder, prediction, joint, targets, *lengths, topology="rnnt", memory_budget=100_000
        ).backward()
    grid = batch * frames * (labels + 1)
    assert largest < grid * vocab / 20, (largest, grid * vocab)
