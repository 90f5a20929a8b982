"""Arc posteriors, best path and gradients of the lattice, against path enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from espnet_plugin.lattice import (
    StepArcs,
    arc_posteriors,
    best_path,
    forward_backward,
    frame_labels,
    lattice_log_prob,
    pack_steps,
)
from tests.reference import transducer as reference

TOPOLOGIES = ["monotonic", "rnnt"]
LENGTHS = torch.tensor([6, 4, 5])
TARGET_LENGTHS = torch.tensor([3, 4, 0])
TARGETS = torch.tensor([[2, 1, 1, 9], [1, 2, 3, 1], [9, 9, 9, 9]])


def grid() -> tuple[Tensor, Tensor, Tensor]:
    """Logits [3, 6, 5, 4] and their blank and label scores."""
    torch.manual_seed(2)
    logits = 2 * torch.randn(3, 6, 5, 4, dtype=torch.float64)
    log_probs = logits.log_softmax(-1)
    index = TARGETS.clamp(max=3)[:, None, :, None].expand(3, 6, 4, 1)
    return logits, log_probs[..., 0], log_probs[:, :, :-1].gather(3, index).squeeze(3)


def arcs_of(topology: str) -> tuple[Tensor, StepArcs]:
    logits, blank, label = grid()
    return logits, pack_steps(blank, label, LENGTHS, TARGET_LENGTHS, topology)


def single(logits: Tensor, b: int) -> tuple[object, list[int]]:
    labels = int(TARGET_LENGTHS[b])
    return logits[b, : LENGTHS[b], : labels + 1].numpy(), TARGETS[b, :labels].tolist()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_posteriors(topology: str) -> None:
    logits, arcs = arcs_of(topology)
    blank, label, _ = arc_posteriors(arcs)
    for b in range(3):
        frames, labels = int(LENGTHS[b]), int(TARGET_LENGTHS[b])
        by_blank, by_label = reference.arc_posteriors(*single(logits, b), 0, topology)
        wanted = torch.zeros(2, 6, 5, dtype=torch.float64)
        wanted[0, :frames, : labels + 1] = torch.from_numpy(by_blank)
        wanted[1, :frames, : labels + 1] = torch.from_numpy(by_label)
        torch.testing.assert_close(blank[b], wanted[0], rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(label[b], wanted[1, :, :-1], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_forward_and_backward_scores_give_one_cost(topology: str) -> None:
    _, arcs = arcs_of(topology)
    _, beta, log_prob = forward_backward(arcs)
    torch.testing.assert_close(beta[0, :, 0], log_prob, rtol=1e-12, atol=0)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_best_path(topology: str) -> None:
    logits, arcs = arcs_of(topology)
    emits, score = best_path(arcs)
    for b in range(3):
        wanted_score, path = reference.best_path(*single(logits, b), 0, topology)
        assert score[b].item() == pytest.approx(wanted_score, rel=1e-12)
        assert emits[b, : len(path)].tolist() == [is_label for _, _, is_label in path]
        assert not emits[b, len(path) :].any()


def test_best_path_of_an_impossible_sequence() -> None:
    _, blank, label = grid()
    arcs = pack_steps(blank, label, torch.tensor([2, 4, 5]), TARGET_LENGTHS, "monotonic")
    emits, score = best_path(arcs)
    assert score[0] == -math.inf
    assert not emits[0].any()
    assert torch.isfinite(score[1:]).all()


def test_frame_labels() -> None:
    emits = torch.tensor([[0, 1, 0, 1, 1, 0], [1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    wanted = [[0, 2, 0, 1, 1, 0], [1, 2, 3, 1, 0, 0], [0, 0, 0, 0, 0, 0]]
    assert frame_labels(emits, TARGETS, blank=0).tolist() == wanted


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_gradcheck_of_arc_scores(topology: str) -> None:
    _, blank, label = grid()

    def function(blank: Tensor, label: Tensor) -> Tensor:
        return lattice_log_prob(blank, label, LENGTHS, TARGET_LENGTHS, topology)

    scores = (blank.clone().requires_grad_(), label.clone().requires_grad_())
    assert torch.autograd.gradcheck(function, scores)


def test_a_sequence_without_path_has_zero_gradient() -> None:
    _, blank, label = grid()
    blank.requires_grad_()
    label.requires_grad_()
    lengths = torch.tensor([2, 4, 5])
    log_prob = lattice_log_prob(blank, label, lengths, TARGET_LENGTHS, "monotonic")
    assert log_prob[0] == -math.inf
    log_prob.sum().backward()
    for gradient in (blank.grad, label.grad):
        assert gradient is not None
        assert (gradient[0] == 0).all()
        assert torch.isfinite(gradient).all()
    assert blank.grad is not None
    assert (blank.grad[1:] != 0).any()
