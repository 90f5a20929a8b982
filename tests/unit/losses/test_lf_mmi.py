"""LF-MMI against the enumeration of every label sequence and of every alignment of each."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_plugin.losses import full_sum_loss, lf_mmi_loss
from espnet_plugin.nn import JointNetwork
from tests.reference import transducer

LENGTHS = torch.tensor([4, 3, 2, 4])
TARGETS = torch.tensor([[1, 2, 1], [2, 2, 99], [1, 1, 1], [-1, 7, 0]])
TARGET_LENGTHS = torch.tensor([3, 2, 3, 0])  # the third has more labels than frames
SIZE = 3


def parts(blank: int = 0) -> tuple[Tensor, Tensor, JointNetwork, Tensor]:
    torch.manual_seed(3)
    joint = JointNetwork(5, 4, 6, SIZE).double().eval()
    with torch.no_grad():
        joint.output.weight.mul_(4.0)
    encoder_out = torch.randn(4, 4, 5, dtype=torch.float64)
    context_out = torch.randn(SIZE, 4, dtype=torch.float64)
    bigram = torch.randn(SIZE, SIZE + 1, dtype=torch.float64).log_softmax(1)
    return encoder_out, context_out, joint, bigram


def enumerate_loss(row: int, target: list[int], blank: int, scale: float, lm_scale: float) -> float:
    """-log of the reference's share, every symbol sequence of the frames visited one by one."""
    encoder_out, context_out, joint, bigram = parts(blank)
    logits = joint(encoder_out[:, :, None], context_out)[row].detach()  # [T, V, V]
    scores = scale * logits.log_softmax(-1).numpy()
    lm = lm_scale * bigram.numpy()
    shares: dict[tuple[int, ...], float] = {}
    for symbols in itertools.product(range(SIZE), repeat=int(LENGTHS[row])):
        state, score = blank, 0.0
        for frame, symbol in enumerate(symbols):
            score += scores[frame, state, symbol]
            if symbol != blank:
                score += lm[state, symbol]
                state = symbol
        score += lm[state, -1]
        labels = tuple(symbol for symbol in symbols if symbol != blank)
        shares[labels] = shares.get(labels, 0.0) + math.exp(score)
    return -math.log(shares[tuple(target)] / sum(shares.values()))


def targets_of(blank: int) -> Tensor:
    """The same labels with another index of the blank."""
    return TARGETS if blank == 0 else torch.where(TARGETS == 2, 0, TARGETS)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize(("scale", "lm_scale"), [(1.0, 1.0), (0.7, 0.4), (1.0, 0.0)])
def test_is_the_enumeration(blank: int, scale: float, lm_scale: float) -> None:
    targets = targets_of(blank)
    found = lf_mmi_loss(
        *parts(blank)[:3],
        targets,
        LENGTHS,
        TARGET_LENGTHS,
        parts(blank)[3],
        blank=blank,
        scale=scale,
        lm_scale=lm_scale,
        reduction="none",
    )
    for row in (0, 1, 3):
        target = targets[row, : TARGET_LENGTHS[row]].tolist()
        wanted = enumerate_loss(row, target, blank, scale, lm_scale)
        assert found[row].item() == pytest.approx(wanted, rel=1e-10)
    assert math.isinf(found[2].item())


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


def test_gradients_and_chunks() -> None:
    encoder_out, context_out, joint, bigram = parts()
    encoder_out.requires_grad_()
    context_out.requires_grad_()

    def loss(frames: Tensor, contexts: Tensor, budget: int = 1 << 20) -> Tensor:
        lengths = (LENGTHS, TARGET_LENGTHS)
        options = {"scale": 0.8, "lm_scale": 0.6, "infeasible": "skip", "reduction": "sum"}
        return lf_mmi_loss(
            frames, contexts, joint, TARGETS, *lengths, bigram, memory_budget=budget, **options
        )

    torch.autograd.gradcheck(loss, (encoder_out, context_out))
    whole = torch.autograd.grad(loss(encoder_out, context_out), (encoder_out, context_out))
    single = torch.autograd.grad(loss(encoder_out, context_out, 1), (encoder_out, context_out))
    for one, other in zip(whole, single, strict=True):
        assert torch.allclose(one, other, atol=1e-13)
    assert not whole[0][1, 3].any() and not whole[0][2].any()  # padding, and an impossible target


def test_nothing_is_read_from_the_padding() -> None:
    encoder_out, context_out, joint, bigram = parts()
    lengths = (LENGTHS, TARGET_LENGTHS)
    options = {"reduction": "none"}
    clean = lf_mmi_loss(encoder_out, context_out, joint, TARGETS, *lengths, bigram, **options)
    dirty = encoder_out.clone()
    dirty[1, 3:], dirty[2, 2:] = math.nan, math.inf
    again = lf_mmi_loss(dirty, context_out, joint, TARGETS, *lengths, bigram, **options)
    assert torch.equal(clean, again)


def test_half_precision_comes_close_and_the_reference_is_one_of_all() -> None:
    encoder_out, context_out, joint, bigram = parts()
    lengths = (LENGTHS, TARGET_LENGTHS)
    options = {"reduction": "none", "infeasible": "skip"}
    exact = lf_mmi_loss(encoder_out, context_out, joint, TARGETS, *lengths, bigram, **options)
    assert bool((exact >= 0).all())
    with torch.autocast("cpu", torch.bfloat16):
        half = lf_mmi_loss(
            *(encoder_out.float(), context_out.float(), joint.float(), TARGETS),
            *(*lengths, bigram.float()),
            **options,
        )
    assert half.dtype == torch.float32 and torch.allclose(
        half.double(), exact, rtol=0.05, atol=0.05
    )


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
