"""Full-sum losses against path enumeration: value and gradient, both topologies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_plugin.losses import available_backends, encoder_full_sum_loss, full_sum_loss
from tests.reference import transducer as reference

TOPOLOGIES = ["monotonic", "rnnt"]
BLANKS = [0, 3]
LENGTHS = torch.tensor([6, 4, 5, 1])
TARGET_LENGTHS = torch.tensor([3, 4, 0, 1])
VOCAB = 5


def make_batch(blank: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Ragged logits [4, 6, 5, 5] and targets [4, 4]; padding holds garbage."""
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(4, 6, 5, VOCAB, generator=generator, dtype=dtype) * 2
    labels = torch.tensor([v for v in range(VOCAB) if v != blank])
    targets = labels[torch.randint(0, VOCAB - 1, (4, 4), generator=generator)]
    for b in range(4):
        targets[b, TARGET_LENGTHS[b] :] = -1
        logits[b, LENGTHS[b] :] = 99.0
        logits[b, :, TARGET_LENGTHS[b] + 1 :] = 99.0
    return logits, targets


def expected(logits: Tensor, targets: Tensor, blank: int, topology: str) -> tuple[Tensor, Tensor]:
    """Values [B] and gradients of their sum, by enumeration."""
    values, gradient = [], torch.zeros(logits.shape, dtype=torch.float64)
    for b in range(len(logits)):
        frames, labels = int(LENGTHS[b]), int(TARGET_LENGTHS[b])
        value, grad = reference.enumerate_loss(
            logits[b, :frames, : labels + 1].double().numpy(),
            targets[b, :labels].tolist(),
            blank,
            topology,
        )
        values.append(value)
        gradient[b, :frames, : labels + 1] = torch.from_numpy(grad)
    return torch.tensor(values, dtype=torch.float64), gradient


def reduced(values: Tensor, gradient: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    """What each reduction gives; for "none" the sequences get weights 1, 2, 3, 4."""
    if reduction == "none":
        return values, gradient * torch.arange(1.0, 5.0)[:, None, None, None]
    if reduction == "sum":
        return values.sum(), gradient
    return values.mean(), gradient / len(values)


def backward(loss: Tensor) -> None:
    weights = torch.arange(1.0, 5.0, dtype=loss.dtype) if loss.ndim else 1.0
    (loss * weights).sum().backward()


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_value_and_gradient_equal_enumeration(blank: int, topology: str, reduction: str) -> None:
    logits, targets = make_batch(blank)
    values, gradient = reduced(*expected(logits, targets, blank, topology), reduction)
    logits.requires_grad_()
    loss = full_sum_loss(
        logits,
        targets,
        LENGTHS,
        TARGET_LENGTHS,
        blank=blank,
        topology=topology,
        reduction=reduction,
        backend="torch",
    )
    backward(loss)
    torch.testing.assert_close(loss.detach(), values, rtol=1e-10, atol=0)
    torch.testing.assert_close(logits.grad, gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(
    "backend", sorted({"auto", *available_backends()} - {"triton", "triton_fused"})
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_backends_and_dtypes(topology: str, backend: str, dtype: torch.dtype) -> None:
    if backend == "warp_rnnt" or (backend == "torchaudio" and topology == "monotonic"):
        pytest.skip("not what this backend computes on a CPU")
    logits, targets = make_batch(0, dtype)
    values, gradient = expected(logits, targets, 0, topology)
    logits.requires_grad_()
    loss = full_sum_loss(
        logits,
        targets,
        LENGTHS,
        TARGET_LENGTHS,
        topology=topology,
        reduction="none",
        backend=backend,
    )
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert logits.grad is not None
    assert logits.grad.dtype == dtype
    torch.testing.assert_close(loss.detach().double(), values, rtol=1e-5, atol=1e-5)
    # The gradient is computed in float32 and rounded once to the dtype of the logits.
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(logits.grad.double(), gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_gradcheck(topology: str, reduction: str) -> None:
    logits, targets = make_batch(0)

    def function(z: Tensor) -> Any:
        return full_sum_loss(
            z, targets, LENGTHS, TARGET_LENGTHS, topology=topology, reduction=reduction
        )

    assert torch.autograd.gradcheck(function, logits.requires_grad_())


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_encoder_only_equals_grid_of_equal_rows(topology: str) -> None:
    _, targets = make_batch(0)
    scores = torch.randn(4, 6, VOCAB, dtype=torch.float64, requires_grad=True)
    grid = scores[:, :, None].expand(4, 6, 5, VOCAB)
    arguments = (targets, LENGTHS, TARGET_LENGTHS)
    wanted = full_sum_loss(grid, *arguments, topology=topology, reduction="none")
    (wanted_grad,) = torch.autograd.grad(wanted.sum(), scores)
    loss = encoder_full_sum_loss(scores, *arguments, topology=topology, reduction="none")
    (grad,) = torch.autograd.grad(loss.sum(), scores)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(grad, wanted_grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_long_sequences_keep_their_precision(topology: str) -> None:
    """A thousand frames of confident scores: posteriors must still sum to one per frame."""
    torch.manual_seed(1)
    frames, labels, vocab = 1000, 60, 20
    logits = 6 * torch.randn(1, frames, labels + 1, vocab)
    logits.requires_grad_()
    targets = torch.randint(1, vocab, (1, labels))
    lengths = (torch.tensor([frames]), torch.tensor([labels]))
    full_sum_loss(logits, targets, *lengths, topology=topology).backward()
    wide = logits.detach().double().requires_grad_()
    full_sum_loss(wide, targets, *lengths, topology=topology).backward()
    assert logits.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(logits.grad.double(), wide.grad, rtol=1e-3, atol=1e-6)


def test_repeated_runs_are_bitwise_equal() -> None:
    results = []
    for _ in range(2):
        logits, targets = make_batch(0, torch.float32)
        logits.requires_grad_()
        loss = full_sum_loss(logits, targets, LENGTHS, TARGET_LENGTHS)
        loss.backward()
        results.append((loss.detach(), logits.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] is not None
    assert torch.equal(results[0][1], results[1][1])  # type: ignore[arg-type]


def test_non_contiguous_logits() -> None:
    logits, targets = make_batch(0)
    strange = logits.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    assert not strange.is_contiguous()
    arguments = (targets, LENGTHS, TARGET_LENGTHS)
    torch.testing.assert_close(
        full_sum_loss(strange, *arguments), full_sum_loss(logits, *arguments)
    )


def test_enumeration_is_not_vacuous() -> None:
    values, _ = expected(*make_batch(0), 0, "monotonic")
    assert np.isfinite(values.numpy()).all()
    assert len(set(values.tolist())) == 4
