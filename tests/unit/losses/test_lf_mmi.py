"""LF-MMI against the enumeration of every label sequence and of every alignment of each."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_plugin.lattice import label_contexts
from espnet_plugin.losses import full_sum_loss, lf_mmi_loss
from espnet_plugin.nn import JointNetwork
from tests.reference import lf_mmi, transducer

LENGTHS = torch.tensor([4, 3, 2, 4])
TARGETS = torch.tensor([[1, 2, 1], [2, 2, 99], [1, 1, 1], [-1, 7, 0]])
TARGET_LENGTHS = torch.tensor([3, 2, 3, 0])  # the third has more labels than frames
SIZE = 3
FEASIBLE = (0, 1, 3)


def parts() -> tuple[Tensor, Tensor, JointNetwork, Tensor]:
    torch.manual_seed(3)
    joint = JointNetwork(5, 4, 6, SIZE).double().eval()
    with torch.no_grad():
        joint.output.weight.mul_(4.0)
    encoder_out = torch.randn(4, 4, 5, dtype=torch.float64)
    context_out = torch.randn(SIZE, 4, dtype=torch.float64)
    bigram = torch.randn(SIZE, SIZE + 1, dtype=torch.float64).log_softmax(1)
    return encoder_out, context_out, joint, bigram


def scores_of(row: int, scale: float = 1.0) -> np.ndarray:
    """[T, V, V] as the references take them."""
    encoder_out, context_out, joint, _ = parts()
    logits = joint(encoder_out[row, : LENGTHS[row], None], context_out).detach()
    return scale * logits.log_softmax(-1).numpy()


def targets_of(blank: int) -> Tensor:
    """The same labels with another index of the blank."""
    return TARGETS if blank == 0 else torch.where(TARGETS == 2, 0, TARGETS)


def labels_of(row: int, blank: int = 0) -> list[int]:
    labels: list[int] = targets_of(blank)[row, : TARGET_LENGTHS[row]].tolist()
    return labels


def enumerated(row: int, blank: int, scale: float, lm_scale: float, *given: object) -> Tensor:
    """The loss of a sequence as a sum over all sequences of symbols, for autograd to go through."""
    encoder_out, context_out, joint, bigram = given or parts()
    scores = scale * joint(encoder_out[row, : LENGTHS[row], None], context_out).log_softmax(-1)
    lm, wanted = lm_scale * bigram, labels_of(row, blank)
    every, right = [], []
    for symbols in itertools.product(range(SIZE), repeat=int(LENGTHS[row])):
        labels = [symbol for symbol in symbols if symbol != blank]
        states = [blank, *itertools.accumulate(symbols, lambda u, v: u if v == blank else v,
                                               initial=blank)][1:]  # fmt: skip
        score = sum(scores[t, u, v] for t, (u, v) in enumerate(zip(states, symbols, strict=False)))
        history = [blank, *labels]
        score = score + sum(lm[u, v] for u, v in itertools.pairwise(history)) + lm[history[-1], -1]
        every.append(score)
        right += [score] if labels == wanted else []
    return torch.stack(every).logsumexp(0) - torch.stack(right).logsumexp(0)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize(("scale", "lm_scale"), [(1.0, 1.0), (0.7, 0.4), (1.0, 0.0)])
def test_value_and_gradients_are_the_enumerations(
    blank: int, scale: float, lm_scale: float
) -> None:
    encoder_out, context_out, joint, bigram = parts()
    leaves = [encoder_out.requires_grad_(), context_out.requires_grad_(), *joint.parameters()]
    found = lf_mmi_loss(
        *(encoder_out, context_out, joint, targets_of(blank), LENGTHS, TARGET_LENGTHS, bigram),
        blank=blank,
        scale=scale,
        lm_scale=lm_scale,
        reduction="none",
    )
    assert math.isinf(found[2].item())
    gradients = torch.autograd.grad(found[[0, 1, 3]].sum(), leaves)
    given = (encoder_out, context_out, joint, bigram)
    wanted = torch.stack([enumerated(n, blank, scale, lm_scale, *given) for n in FEASIBLE])
    assert torch.allclose(found[[0, 1, 3]], wanted, rtol=1e-10, atol=1e-10)
    for one, other in zip(gradients, torch.autograd.grad(wanted.sum(), leaves), strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)
    if blank == 0:  # by a program that knows nothing of torch
        lm = lm_scale * bigram.numpy()
        for row, loss in zip(FEASIBLE, wanted.tolist(), strict=True):
            scores = scores_of(row, scale)
            assert loss == pytest.approx(lf_mmi.enumerated_loss(scores, lm, labels_of(row), 0))
            assert loss == pytest.approx(lf_mmi.log_domain_loss(scores, lm, labels_of(row), 0))


def test_without_language_model_it_is_the_full_sum_loss() -> None:
    encoder_out, context_out, joint, bigram = parts()
    lengths = (LENGTHS, TARGET_LENGTHS)
    options = {"reduction": "sum", "infeasible": "skip"}
    encoder_out.requires_grad_()
    found = lf_mmi_loss(
        encoder_out, context_out, joint, TARGETS, *lengths, bigram, lm_scale=0.0, **options
    )
    (gradient,) = torch.autograd.grad(found, encoder_out)
    history = torch.nn.functional.pad(TARGETS.clamp(0, SIZE - 1), (1, 0))
    logits = joint(encoder_out[:, :, None], context_out[history][:, None])
    wanted = full_sum_loss(logits, TARGETS, *lengths, **options)
    (expected,) = torch.autograd.grad(wanted, encoder_out)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    assert torch.allclose(gradient, expected, atol=1e-12)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_finite_differences_and_chunks(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder_out, context_out, joint, bigram = parts()
    joint.dropout.p = dropout
    joint.train()
    encoder_out.requires_grad_()
    context_out.requires_grad_()

    def loss(frames: Tensor, contexts: Tensor, budget: int | None = None) -> Tensor:
        torch.manual_seed(1)  # the same mask every time
        return lf_mmi_loss(
            *(frames, contexts, joint, TARGETS, LENGTHS, TARGET_LENGTHS, bigram),
            scale=0.8,
            lm_scale=0.6,
            infeasible="skip",
            reduction="sum",
            memory_budget=budget,
        )

    torch.autograd.gradcheck(loss, (encoder_out, context_out))
    whole = torch.autograd.grad(loss(encoder_out, context_out), (encoder_out, context_out))
    monkeypatch.setitem(label_contexts._CHUNK_BYTES, "cpu", 1)
    single = torch.autograd.grad(loss(encoder_out, context_out, 1), (encoder_out, context_out))
    for one, other in zip(whole, single, strict=True):
        assert torch.allclose(one, other, atol=1e-13)
    assert not whole[0][1, 3].any() and not whole[0][2].any()  # padding, and an impossible target
    with torch.no_grad():
        alone = loss(encoder_out, context_out)
    assert alone.item() == loss(encoder_out, context_out).item()


def test_a_batch_is_its_sequences_one_by_one() -> None:
    encoder_out, context_out, joint, bigram = parts()
    given = {"reduction": "none"}
    lengths = (LENGTHS, TARGET_LENGTHS)
    dirty = encoder_out.clone()
    dirty[1, 3:], dirty[2, 2:] = math.nan, math.inf  # padding
    whole = lf_mmi_loss(dirty, context_out, joint, TARGETS, *lengths, bigram, **given)
    for row in FEASIBLE:
        labels = torch.tensor([labels_of(row)], dtype=torch.int64)
        one = lf_mmi_loss(
            *(encoder_out[row : row + 1, : LENGTHS[row]], context_out, joint, labels),
            *(LENGTHS[row : row + 1], TARGET_LENGTHS[row : row + 1], bigram),
            **given,
        )
        assert one.item() == pytest.approx(whole[row].item(), rel=1e-14)


def test_long_and_sharp_sequences_neither_overflow_nor_vanish() -> None:
    """Scores of thousands of nats, against the log domain."""
    torch.manual_seed(0)
    joint = JointNetwork(5, 4, 6, SIZE).double()
    with torch.no_grad():
        joint.output.weight.mul_(400.0)
    encoder_out = torch.randn(1, 400, 5, dtype=torch.float64)
    context_out = torch.randn(SIZE, 4, dtype=torch.float64)
    bigram = 3 * torch.randn(SIZE, SIZE + 1, dtype=torch.float64)
    targets = torch.randint(1, SIZE, (1, 150))
    found = lf_mmi_loss(
        *(encoder_out, context_out, joint, targets, torch.tensor([400]), torch.tensor([150])),
        bigram,
    )
    scores = joint(encoder_out[0, :, None], context_out).log_softmax(-1).detach().numpy()
    wanted = lf_mmi.log_domain_loss(scores, bigram.numpy(), targets[0].tolist(), 0)
    assert wanted > 3000 and found.item() == pytest.approx(wanted, rel=1e-12)


def test_what_is_broken_stays_with_its_sequence() -> None:
    encoder_out, context_out, joint, bigram = parts()
    clean = encoder_out.clone().requires_grad_()
    broken = encoder_out.clone()
    broken[0, 1] = math.nan
    broken.requires_grad_()

    def losses(frames: Tensor) -> Tensor:
        rest = (context_out, joint, TARGETS, LENGTHS, TARGET_LENGTHS, bigram)
        return lf_mmi_loss(frames, *rest, reduction="none", infeasible="skip")

    found, wanted = losses(broken), losses(clean)
    assert found[0].isnan() and torch.allclose(found[1:], wanted[1:], rtol=1e-13)
    (gradient,) = torch.autograd.grad(found.sum(), broken)
    (expected,) = torch.autograd.grad(wanted.sum(), clean)
    assert bool(gradient[0].isnan().any())  # so that the trainer leaves the update out
    assert torch.allclose(gradient[1:], expected[1:], atol=1e-13)


def test_labels_of_probability_zero() -> None:
    encoder_out, context_out, joint, bigram = parts()
    with torch.no_grad():
        joint.output.bias[1] = -math.inf
    encoder_out.requires_grad_()
    found = lf_mmi_loss(
        *(encoder_out, context_out, joint, TARGETS, LENGTHS, TARGET_LENGTHS, bigram),
        reduction="none",
    )
    assert found.isinf().tolist() == [True, False, True, False]  # where 1 is a label
    (gradient,) = torch.autograd.grad(found[[1, 3]].sum() + found[0], encoder_out)
    assert bool(gradient.isfinite().all()) and not gradient[0].any() and bool(gradient[1].any())


def test_half_precision_comes_close_and_the_reference_is_one_of_all() -> None:
    encoder_out, context_out, joint, bigram = parts()
    lengths = (LENGTHS, TARGET_LENGTHS)
    options = {"reduction": "none", "infeasible": "skip"}
    exact = lf_mmi_loss(encoder_out, context_out, joint, TARGETS, *lengths, bigram, **options)
    assert bool((exact >= 0).all())
    single = encoder_out.float().requires_grad_()
    rest = (TARGETS, *lengths, bigram.float())
    with torch.autocast("cpu", torch.bfloat16):
        half = lf_mmi_loss(single, context_out.float(), joint.float(), *rest, **options)
    halves = (encoder_out.bfloat16(), context_out.bfloat16(), joint.bfloat16())
    whole = lf_mmi_loss(*halves, *rest, **options)
    for found in (half, whole):
        assert found.dtype == torch.float32
        assert torch.allclose(found.double(), exact, rtol=0.05, atol=0.05)
    half.sum().backward()
    assert single.grad is not None and bool(single.grad.isfinite().all())


def test_numerator_is_the_reference_implementations() -> None:
    """What is subtracted for the reference is log P(a|x) as another program computes it."""
    encoder_out, context_out, joint, bigram = parts()
    history = [0, *TARGETS[0].tolist()]
    logits = joint(encoder_out[:1, :, None], context_out[history])[0].detach().numpy()
    cost = transducer.alpha_loss(logits, TARGETS[0].tolist(), 0, "monotonic")
    zero = torch.zeros_like(bigram)
    found = lf_mmi_loss(
        encoder_out[:1], context_out, joint, TARGETS[:1], LENGTHS[:1], TARGET_LENGTHS[:1], zero
    )
    assert np.isclose(found.item(), cost, rtol=1e-12)


def test_bad_input() -> None:
    encoder_out, context_out, joint, bigram = parts()
    given = (encoder_out, context_out, joint, TARGETS, LENGTHS, TARGET_LENGTHS)
    with pytest.raises(ValueError, match="last column is the end"):
        lf_mmi_loss(*given, bigram[:, :-1])
    with pytest.raises(ValueError, match="scale > 0"):
        lf_mmi_loss(*given, bigram, scale=0.0)
    with pytest.raises(ValueError, match="no alignment"):
        lf_mmi_loss(*given, bigram, infeasible="error")
    with pytest.raises(ValueError, match="has 2 rows; the joint network knows 3 tokens"):
        lf_mmi_loss(encoder_out, context_out[:2], *given[2:], bigram)
    with pytest.raises(RuntimeError, match="only once"):
        encoder_out.requires_grad_()
        loss = lf_mmi_loss(*given, bigram, infeasible="skip")
        torch.autograd.grad(loss, encoder_out, create_graph=True)
