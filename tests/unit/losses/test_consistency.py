"""Consistency of two views: against a plain sum, the gradient's stop, padding, half precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_plugin.losses import consistency_loss

LENGTHS = torch.tensor([5, 3, 5, 3])


def views() -> Tensor:
    """Two views of two utterances: [4, 5, 6]."""
    torch.manual_seed(0)
    return 3 * torch.randn(4, 5, 6, dtype=torch.float64)


def plain(logits: Tensor, lengths: Tensor) -> list[float]:
    """sum_t sum_v q log(q/p) of every row against the other view, number by number."""
    scores, rows = logits.detach().numpy(), len(logits)
    found = []
    for row in range(rows):
        other, total = (row + rows // 2) % rows, 0.0
        for frame in range(int(lengths[row])):
            p, q = (np.exp(scores[r, frame]) for r in (row, other))
            p, q = p / p.sum(), q / q.sum()
            total += float((q * np.log(q / p)).sum())
        found.append(total)
    return found


def test_it_is_the_kl_divergence_from_the_other_view():
    logits, expected = views(), plain(views(), LENGTHS)
    assert consistency_loss(logits, LENGTHS, reduction="none").tolist() == pytest.approx(expected)
    assert float(consistency_loss(logits, LENGTHS)) == pytest.approx(sum(expected) / 4)
    # the publication's L_CR of an utterance: half of both divergences
    first = 0.5 * (expected[0] + expected[2])
    alone = consistency_loss(logits[[0, 2]], LENGTHS[[0, 2]])
    assert float(alone) == pytest.approx(first)


def test_equal_views_are_consistent():
    one = views()[:2]
    logits = torch.cat([one, one]).requires_grad_()
    loss = consistency_loss(logits, LENGTHS, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0.0
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-15, rtol=0)


def test_the_target_is_a_constant():
    """The gradient is softmax(own) - softmax(other); if targets had one it would be another."""
    logits = views().requires_grad_()
    losses = consistency_loss(logits, LENGTHS, reduction="none")
    (gradient,) = torch.autograd.grad(losses[0], logits)
    p = logits.detach().softmax(-1)
    torch.testing.assert_close(gradient[0], p[0] - p[2])
    assert not gradient[1:].any()  # nor the view that is the target
    (whole,) = torch.autograd.grad(consistency_loss(logits, LENGTHS, reduction="sum"), logits)
    torch.testing.assert_close(whole[0, :5], p[0] - p[2])
    torch.testing.assert_close(whole[3, :3], (p[3] - p[1])[:3])


def test_what_lies_beyond_the_lengths_is_not_read():
    clean, dirty = views().requires_grad_(), views()
    dirty[1, 3:], dirty[3, 3:] = float("nan"), float("inf")
    dirty.requires_grad_()
    for either in (clean, dirty):
        consistency_loss(either, LENGTHS).backward()
    assert torch.equal(clean.grad, dirty.grad)
    assert not dirty.grad[1, 3:].any()


def test_bfloat16_logits_are_summed_in_float32():
    logits = views().bfloat16()
    found = consistency_loss(logits, LENGTHS, reduction="none")
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(plain(logits.double(), LENGTHS), rel=1e-4)


@pytest.mark.parametrize(
    ("logits", "lengths"), [(torch.zeros(3, 2, 2), [2, 2, 2]), (torch.zeros(4, 2, 2), [2, 2])]
)
def test_other_shapes_are_refused(logits, lengths):
    with pytest.raises(ValueError, match="two views, one after the other"):
        consistency_loss(logits, torch.tensor(lengths))
