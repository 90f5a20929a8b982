"""Viterbi, focal encoder, CTC and MBR losses against their NumPy references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_plugin.losses import ctc_loss, encoder_ce_loss, mbr_loss, viterbi_loss
from tests.reference import criteria, transducer

LENGTHS = torch.tensor([5, 3, 0])


def aligned_batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    logits = torch.randn(3, 5, 4, dtype=torch.float64)
    alignment = torch.tensor([[0, 2, 0, 1, 3], [1, 0, 0, -1, -1], [-1, -1, -1, -1, -1]])
    return logits, alignment


def check_against(
    loss: Tensor, logits: Tensor, wanted: list[float], reduction: str, rtol: float = 1e-10
) -> None:
    values = torch.tensor(wanted, dtype=torch.float64)
    value = {"none": values, "sum": values.sum(), "mean": values.mean()}[reduction]
    torch.testing.assert_close(loss, value, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(("smoothing", "boost"), [(0.2, 5.0), (0.0, 5.0), (0.2, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("blank", [0, 2])
def test_viterbi_loss(reduction: str, smoothing: float, boost: float, blank: int) -> None:
    logits, alignment = aligned_batch()

    def single(b: int, scores: np.ndarray) -> float:
        symbols = alignment[b, : LENGTHS[b]].tolist()
        return criteria.viterbi_loss(scores[: LENGTHS[b]], symbols, blank, smoothing, boost)

    options = {"blank": blank, "label_smoothing": smoothing, "boost": boost}
    loss = viterbi_loss(logits, alignment, LENGTHS, reduction=reduction, **options)
    check_against(loss, logits, [single(b, logits[b].numpy()) for b in range(3)], reduction)
    logits.requires_grad_()
    viterbi_loss(logits, alignment, LENGTHS, reduction="sum", **options).backward()
    for b in range(3):
        gradient = criteria.numerical_gradient(
            lambda z, b=b: single(b, z), logits[b].detach().numpy()
        )
        np.testing.assert_allclose(logits.grad[b].numpy(), gradient, atol=1e-7)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_encoder_ce_loss(reduction: str, gamma: float) -> None:
    logits, alignment = aligned_batch()
    wanted = [
        criteria.focal_cross_entropy(
            logits[b, : LENGTHS[b]].numpy(), alignment[b, : LENGTHS[b]].tolist(), gamma
        )
        for b in range(3)
    ]
    loss = encoder_ce_loss(logits, alignment, LENGTHS, focal=gamma, reduction=reduction)
    check_against(loss, logits, wanted, reduction)
    assert torch.autograd.gradcheck(
        lambda z: encoder_ce_loss(z, alignment, LENGTHS, focal=gamma, reduction=reduction),
        logits.requires_grad_(),
    )


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_focal_gradient_is_finite_at_certainty(gamma: float) -> None:
    logits = torch.tensor([[[80.0, -80.0]]], requires_grad=True)
    loss = encoder_ce_loss(logits, torch.tensor([[0]]), torch.tensor([1]), focal=gamma)
    loss.backward()
    assert loss.item() == pytest.approx(0.0)
    assert torch.isfinite(logits.grad).all()


def test_frame_losses_read_nothing_past_the_end() -> None:
    logits, alignment = aligned_batch()
    logits[1, 3:] = math.nan
    logits[2] = math.nan
    for function in (viterbi_loss, encoder_ce_loss):
        scores = logits.clone().requires_grad_()
        loss = function(scores, alignment, LENGTHS)
        loss.backward()
        assert torch.isfinite(loss)
        assert (scores.grad[1, 3:] == 0).all()
        assert torch.isfinite(scores.grad).all()


def test_half_precision_is_summed_in_float32() -> None:
    logits, alignment = aligned_batch()
    half = logits.to(torch.bfloat16)
    loss = viterbi_loss(half, alignment, LENGTHS)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss.double(), viterbi_loss(half.double(), alignment, LENGTHS), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_ctc_loss(reduction: str) -> None:
    torch.manual_seed(5)
    logits = torch.randn(3, 5, 3, dtype=torch.float64)
    targets = torch.tensor([[1, 1, 2], [2, -1, -1], [0, 0, 0]])
    lengths, target_lengths = torch.tensor([5, 3, 2]), torch.tensor([3, 1, 0])
    wanted = [
        transducer.ctc_loss(logits[b, : lengths[b]].numpy(), targets[b, :s].tolist(), 0)
        for b, s in enumerate(target_lengths.tolist())
    ]
    loss = ctc_loss(logits, targets, lengths, target_lengths, reduction=reduction)
    check_against(loss, logits, wanted, reduction)


def test_ctc_names_repeats_that_need_a_blank_as_infeasible() -> None:
    logits = torch.randn(2, 2, 3, requires_grad=True)
    targets, lengths = torch.tensor([[1, 1], [1, 2]]), torch.tensor([2, 2])
    loss = ctc_loss(logits, targets, lengths, lengths, reduction="none")
    assert torch.isposinf(loss[0])
    assert torch.isfinite(loss[1])
    ctc_loss(logits, targets, lengths, lengths, infeasible="skip").backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[0] == 0).all()
    with pytest.raises(ValueError, match=r"\[0\]"):
        ctc_loss(logits, targets, lengths, lengths, infeasible="error")


def mbr_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(11)
    log_probs = -20 * torch.rand(3, 4, dtype=torch.float64)
    risks = torch.randint(0, 9, (3, 4)).double()
    lm_scores = -5 * torch.rand(3, 4, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    return log_probs, risks, lm_scores, mask


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("with_lm", [False, True])
def test_mbr_loss(reduction: str, with_lm: bool) -> None:
    log_probs, risks, lm_scores, mask = mbr_batch()
    lm = lm_scores if with_lm else None

    def single(b: int, scores: np.ndarray) -> float:
        used = mask[b].numpy()
        total = scores + (lm_scores[b].numpy() if with_lm else 0.0)
        return criteria.expected_risk(total[used], risks[b].numpy()[used], 2.5)

    arguments = {"lm_scores": lm, "scale": 2.5, "mask": mask}
    loss = mbr_loss(log_probs, risks, reduction=reduction, **arguments)
    check_against(loss, log_probs, [single(b, log_probs[b].numpy()) for b in range(3)], reduction)
    log_probs.requires_grad_()
    mbr_loss(log_probs, risks, reduction="sum", **arguments).backward()
    for b in range(3):
        gradient = criteria.numerical_gradient(
            lambda z, b=b: single(b, z), log_probs[b].detach().numpy()
        )
        np.testing.assert_allclose(log_probs.grad[b].numpy(), gradient, atol=1e-6)


def test_mbr_with_impossible_hypotheses() -> None:
    """-inf scores and empty lists give weight 0, loss 0 and gradient 0, never NaN."""
    log_probs = torch.tensor([[-1.0, -math.inf], [-math.inf, -math.inf], [-2.0, -3.0]])
    log_probs.requires_grad_()
    risks = torch.tensor([[2.0, 5.0], [1.0, 1.0], [1.0, 3.0]])
    mask = torch.tensor([[True, True], [True, True], [False, False]])
    loss = mbr_loss(log_probs, risks, mask=mask, reduction="none")
    assert loss.tolist() == [2.0, 0.0, 0.0]
    loss.sum().backward()
    assert (log_probs.grad == 0).all()
