"""Restricted lattices and regularisers against enumeration of the paths they allow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_plugin.lattice import arc_posteriors, pack_steps
from espnet_plugin.losses import (
    Restriction,
    alignment_band,
    encoder_full_sum_loss,
    full_sum_loss,
    fused_full_sum_loss,
    pruned_restriction,
    simple_full_sum_loss,
)
from espnet_plugin.nn import JointNetwork
from tests.reference import transducer as reference

TOPOLOGIES = ["monotonic", "rnnt"]
LENGTHS = torch.tensor([7, 5])
TARGET_LENGTHS = torch.tensor([3, 2])
TARGETS = torch.tensor([[1, 2, 1], [3, 1, -1]])
ALIGNMENT = torch.tensor([[0, 1, 0, 2, 0, 1, 0], [3, 0, 0, 1, 0, -1, -1]])
FRAME_OF_LABEL = [[1, 3, 5], [0, 3]]
VOCAB = 4


def loss_of_paths(logits: np.ndarray, targets: list[int], topology: str, allowed: Any) -> float:
    """-log of the summed probability of the paths all of whose arcs are allowed."""
    log_probs = reference.log_softmax(logits)
    total = -np.inf
    for path in reference.paths(len(logits), len(targets), topology):
        if all(allowed(*arc) for arc in path):
            score = sum(reference.arc_score(log_probs, targets, arc, 0) for arc in path)
            total = np.logaddexp(total, score)
    return -float(total)


def random_logits() -> Tensor:
    torch.manual_seed(6)
    return torch.randn(2, 7, 4, VOCAB, dtype=torch.float64)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 1), (0, 2), (3, 0)])
def test_alignment_band_sums_the_paths_inside(topology: str, left: int, right: int) -> None:
    logits = random_logits().requires_grad_()
    band = alignment_band(ALIGNMENT, LENGTHS, TARGET_LENGTHS, left=left, right=right)
    arguments = (TARGETS, LENGTHS, TARGET_LENGTHS)
    options: dict[str, Any] = {"topology": topology, "restriction": band}
    losses = full_sum_loss(logits, *arguments, reduction="none", **options)
    for b in range(2):

        def allowed(t: int, u: int, is_label: bool, b: int = b) -> bool:
            return not is_label or -left <= t - FRAME_OF_LABEL[b][u] <= right

        labels = int(TARGET_LENGTHS[b])
        wanted = loss_of_paths(
            logits[b, : LENGTHS[b], : labels + 1].detach().numpy(),
            TARGETS[b, :labels].tolist(),
            topology,
            allowed,
        )
        assert losses[b].item() == pytest.approx(wanted, rel=1e-10)
    assert torch.autograd.gradcheck(lambda z: full_sum_loss(z, *arguments, **options), logits)


def test_a_band_of_one_frame_is_the_alignment_itself() -> None:
    logits = random_logits()
    band = alignment_band(ALIGNMENT, LENGTHS, TARGET_LENGTHS, left=0, right=0)
    losses = full_sum_loss(
        logits, TARGETS, LENGTHS, TARGET_LENGTHS, reduction="none", restriction=band
    )
    log_probs, score = logits.log_softmax(-1), 0.0
    for t, symbol in enumerate(ALIGNMENT[0].tolist()):
        u = sum(frame < t for frame in FRAME_OF_LABEL[0])
        score += log_probs[0, t, u, symbol].item()
    assert losses[0].item() == pytest.approx(-score)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_wide_band_restricts_nothing(topology: str) -> None:
    band = alignment_band(ALIGNMENT, LENGTHS, TARGET_LENGTHS, labels=3, left=9, right=9)
    arguments = (random_logits(), TARGETS, LENGTHS, TARGET_LENGTHS)
    torch.testing.assert_close(
        full_sum_loss(*arguments, topology=topology, restriction=band),
        full_sum_loss(*arguments, topology=topology),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_fused_loss_computes_only_the_band_and_agrees(topology: str) -> None:
    torch.manual_seed(1)
    joint = JointNetwork(3, 3, 8, VOCAB).double()
    encoder = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    prediction = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    band = alignment_band(ALIGNMENT, LENGTHS, TARGET_LENGTHS, left=1, right=1)
    arguments = (TARGETS, LENGTHS, TARGET_LENGTHS)
    options: dict[str, Any] = {"topology": topology, "restriction": band}
    wanted = full_sum_loss(joint(encoder[:, :, None], prediction[:, None]), *arguments, **options)
    loss = fused_full_sum_loss(encoder, prediction, joint, *arguments, **options)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    tensors = (encoder, prediction, *joint.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(loss, tensors), torch.autograd.grad(wanted, tensors), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_bands_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="sequence 1 of the batch has 2 labels, its target 3"):
        alignment_band(ALIGNMENT, LENGTHS, torch.tensor([3, 3]), left=1, right=1)
    with pytest.raises(ValueError, match="left=-1"):
        alignment_band(ALIGNMENT, LENGTHS, TARGET_LENGTHS, left=-1, right=1)
    band = alignment_band(ALIGNMENT, LENGTHS, TARGET_LENGTHS, labels=2 + 3, left=1, right=1)
    with pytest.raises(ValueError, match="restriction of shapes"):
        full_sum_loss(random_logits(), TARGETS, LENGTHS, TARGET_LENGTHS, restriction=band)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_simple_joint_equals_its_grid(topology: str) -> None:
    torch.manual_seed(8)
    am = torch.randn(2, 7, VOCAB, dtype=torch.float64, requires_grad=True)
    lm = torch.randn(2, 4, VOCAB, dtype=torch.float64, requires_grad=True)
    arguments = (TARGETS, LENGTHS, TARGET_LENGTHS)
    loss = simple_full_sum_loss(am, lm, *arguments, topology=topology)
    wanted = full_sum_loss(am[:, :, None] + lm[:, None], *arguments, topology=topology)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(loss, (am, lm)), torch.autograd.grad(wanted, (am, lm)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("s_range", [2, 3, 4, 50])
def test_pruned_windows_always_let_a_path_through(topology: str, s_range: int) -> None:
    """Strong random scores put the best windows anywhere; a path must exist all the same."""
    for seed in range(10):
        torch.manual_seed(seed)
        am, lm = 5 * torch.randn(3, 12, 6), 5 * torch.randn(3, 9, 6)
        targets = torch.randint(1, 6, (3, 8))
        lengths, target_lengths = torch.tensor([12, 9, 10]), torch.tensor([8, 8, 0])
        arguments = (targets, lengths, target_lengths)
        window = pruned_restriction(am, lm, *arguments, s_range=s_range, topology=topology)
        assert window.blank.sum(2).max() <= s_range
        grid = am[:, :, None] + lm[:, None]
        losses = full_sum_loss(
            grid, *arguments, topology=topology, restriction=window, reduction="none"
        )
        exact = full_sum_loss(grid, *arguments, topology=topology, reduction="none")
        assert torch.isfinite(losses).all()
        assert (losses >= exact - 1e-4).all()
        if s_range == 50:
            torch.testing.assert_close(losses, exact)


def test_pruned_windows_keep_what_the_simple_joint_occupies() -> None:
    """With one clearly best alignment, the window of every frame holds its positions."""
    am = torch.zeros(1, 6, 3)
    am[0, :, 0] = 8.0  # blank everywhere ...
    am[0, [1, 4], 0] = 0.0
    am[0, 1, 1] = am[0, 4, 2] = 8.0  # ... but a label at frames 1 and 4
    arguments = (torch.tensor([[1, 2]]), torch.tensor([6]), torch.tensor([2]))
    window = pruned_restriction(am, torch.zeros(1, 3, 3), *arguments, s_range=2)
    positions = [0, 0, 1, 1, 1, 2]
    assert all(window.blank[0, t, u] for t, u in enumerate(positions))
    with pytest.raises(ValueError, match="s_range must be at least 2"):
        pruned_restriction(am, torch.zeros(1, 3, 3), *arguments, s_range=1)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_delay_penalty_is_added_to_the_label_scores(topology: str) -> None:
    logits, penalty = random_logits(), 0.3
    arguments = (TARGETS, LENGTHS, TARGET_LENGTHS)
    losses = full_sum_loss(
        logits, *arguments, topology=topology, delay_penalty=penalty, reduction="none"
    )
    for b in range(2):
        frames, labels = int(LENGTHS[b]), int(TARGET_LENGTHS[b])
        log_probs = reference.log_softmax(logits[b, :frames, : labels + 1].numpy())
        total = -math.inf
        for path in reference.paths(frames, labels, topology):
            score = 0.0
            for t, u, is_label in path:
                arc = (t, u, is_label)
                score += reference.arc_score(log_probs, TARGETS[b].tolist(), arc, 0)
                score += penalty * ((frames - 1) / 2 - t) if is_label else 0.0
            total = float(np.logaddexp(total, score))
        assert losses[b].item() == pytest.approx(-total, rel=1e-10)
    assert torch.autograd.gradcheck(
        lambda z: full_sum_loss(z, *arguments, topology=topology, delay_penalty=penalty),
        logits.requires_grad_(),
    )


def test_delay_penalty_moves_labels_forward() -> None:
    logits = random_logits()[:, :, 0].contiguous().requires_grad_()
    arguments = (TARGETS, LENGTHS, TARGET_LENGTHS)
    frame = torch.arange(7)[:, None]

    def mean_frame(penalty: float) -> float:
        log_probs = logits.detach().log_softmax(-1)
        label = log_probs.gather(2, TARGETS.clamp(min=1)[:, None].expand(2, 7, 3))
        label = label + penalty * ((LENGTHS[:, None, None] - 1) / 2 - frame)
        blank = log_probs[:, :, :1].expand(2, 7, 4)
        arcs = pack_steps(blank, label, LENGTHS, TARGET_LENGTHS, "monotonic")
        return float((arc_posteriors(arcs)[1] * frame).sum())

    assert mean_frame(0.5) < mean_frame(0.0)
    plain = encoder_full_sum_loss(logits, *arguments)
    assert encoder_full_sum_loss(logits, *arguments, delay_penalty=0.5) != plain


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_fastemit_scales_the_gradient_of_label_arcs(topology: str) -> None:
    logits, scale = random_logits(), 0.4
    arguments = (TARGETS, LENGTHS, TARGET_LENGTHS)
    options: dict[str, Any] = {"topology": topology, "reduction": "sum"}
    logits.requires_grad_()
    loss = full_sum_loss(logits, *arguments, fastemit_lambda=scale, **options)
    assert loss.item() == full_sum_loss(logits, *arguments, **options).item()
    loss.backward()
    for b in range(2):
        frames, labels = int(LENGTHS[b]), int(TARGET_LENGTHS[b])
        own = logits[b, :frames, : labels + 1].detach().numpy()
        by_blank, by_label = reference.arc_posteriors(
            own, TARGETS[b, :labels].tolist(), 0, topology
        )
        by_label *= 1 + scale
        wanted = np.exp(reference.log_softmax(own)) * (by_blank + by_label)[..., None]
        wanted[..., 0] -= by_blank
        for u in range(labels):
            wanted[:, u, TARGETS[b, u]] -= by_label[:, u]
        np.testing.assert_allclose(
            logits.grad[b, :frames, : labels + 1].numpy(), wanted, atol=1e-10
        )


def test_restriction_names_its_cells() -> None:
    blank = torch.tensor([[[True, False, False]]])
    label = torch.tensor([[[False, True]]])
    assert Restriction(blank, label).cells.tolist() == [[[True, True, False]]]
