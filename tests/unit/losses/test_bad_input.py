"""Wrong or degenerate input to the losses: one clear error, or a defined value; never NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from espnet_plugin.losses import (
    available_backends,
    encoder_full_sum_loss,
    full_sum_loss,
    fused_full_sum_loss,
    mbr_loss,
    viterbi_loss,
)
from espnet_plugin.losses.backends.registry import BACKENDS
from espnet_plugin.nn import JointNetwork

BATCH, FRAMES, LABELS, VOCAB = 3, 5, 4, 6


def grid_loss(**changes: Any) -> Tensor:
    """full_sum_loss on a valid call with some arguments changed."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "logits": torch.randn(BATCH, FRAMES, LABELS + 1, VOCAB, requires_grad=True),
        "targets": torch.randint(1, VOCAB, (BATCH, LABELS)),
        "logit_lengths": torch.tensor([5, 4, 5]),
        "target_lengths": torch.tensor([4, 2, 3]),
    }
    arguments.update(changes)
    return full_sum_loss(**arguments)


def encoder_loss(**changes: Any) -> Tensor:
    """encoder_full_sum_loss on the same."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "logits": torch.randn(BATCH, FRAMES, VOCAB, requires_grad=True),
        "targets": torch.randint(1, VOCAB, (BATCH, LABELS)),
        "logit_lengths": torch.tensor([5, 4, 5]),
        "target_lengths": torch.tensor([4, 2, 3]),
    }
    arguments.update(changes)
    return encoder_full_sum_loss(**arguments)


def fused_loss(**changes: Any) -> Tensor:
    """fused_full_sum_loss on the same."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "encoder_out": torch.randn(BATCH, FRAMES, 3, requires_grad=True),
        "prediction_out": torch.randn(BATCH, LABELS + 1, 3, requires_grad=True),
        "joint": JointNetwork(3, 3, 4, VOCAB),
        "targets": torch.randint(1, VOCAB, (BATCH, LABELS)),
        "encoder_lengths": changes.pop("logit_lengths", torch.tensor([5, 4, 5])),
        "target_lengths": torch.tensor([4, 2, 3]),
    }
    arguments.update(changes)
    return fused_full_sum_loss(**arguments)


ALL = pytest.mark.parametrize("loss", [grid_loss, encoder_loss, fused_loss])


def targets_with(value: int) -> Tensor:
    targets = torch.ones(BATCH, LABELS, dtype=torch.long)
    targets[1, 1] = value
    return targets


@ALL
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": targets_with(0)}, r"targets\[1, 1\] = 0 is the blank"),
        ({"targets": targets_with(VOCAB)}, r"targets\[1, 1\] = 6 lies outside 0\.\.5"),
        ({"targets": targets_with(-1)}, r"targets\[1, 1\] = -1"),
        ({"targets": torch.ones(BATCH, LABELS)}, "targets must hold integers, got torch.float32"),
        ({"targets": torch.ones(2, LABELS, dtype=torch.long)}, "targets must have shape"),
        ({"logit_lengths": torch.tensor([5, 0, 5])}, r"lengths\[1\] = 0 .* outside 1\.\.5"),
        ({"logit_lengths": torch.tensor([5, 6, 5])}, r"lengths\[1\] = 6 .* outside 1\.\.5"),
        ({"logit_lengths": torch.tensor([5.0, 4, 5])}, "lengths must hold integers"),
        ({"logit_lengths": torch.tensor([5, 4])}, r"lengths must have shape \(3,\)"),
        ({"target_lengths": torch.tensor([4, 5, 3])}, r"target_lengths\[1\] = 5"),
        ({"target_lengths": torch.tensor([4, -1, 3])}, r"target_lengths\[1\] = -1"),
        ({"blank": VOCAB}, "blank = 6 lies outside"),
        ({"topology": "hmm"}, "topology must be one of .*'hmm'"),
        ({"reduction": "batchmean"}, "reduction must be one of .*'batchmean'"),
        ({"infeasible": "nan"}, "infeasible must be one of .*'nan'"),
        ({"delay_penalty": -1.0}, "delay_penalty must not be negative"),
    ],
)
def test_wrong_arguments(
    loss: Callable[..., Tensor], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        loss(**changes)


def test_wrong_scores() -> None:
    with pytest.raises(ValueError, match=r"logits must be floating point, got torch\.int64"):
        grid_loss(logits=torch.ones(3, 5, 5, 6, dtype=torch.long))
    with pytest.raises(ValueError, match="logits must have 4 axes"):
        grid_loss(logits=torch.ones(3, 5, 6))
    with pytest.raises(ValueError, match="to fit scores of 4 label positions"):
        grid_loss(logits=torch.ones(3, 5, 4, 6))
    with pytest.raises(ValueError, match="different devices"):
        grid_loss(logits=torch.ones(3, 5, 5, 6, device="meta"))
    with pytest.raises(ValueError, match="encoder_out has 2 sequences, prediction_out 3"):
        fused_loss(encoder_out=torch.ones(2, 5, 3))


def test_checking_finds_nan_and_infinite_scores() -> None:
    logits = torch.randn(BATCH, FRAMES, LABELS + 1, VOCAB)
    logits[1, 2, 0, 3] = math.nan
    with pytest.raises(ValueError, match=r"first at index \[1, 2, 0, 3\]"):
        grid_loss(logits=logits, check=True)
    # Unchecked, the damage stays in its own sequence.
    losses = grid_loss(logits=logits, reduction="none")
    assert torch.isfinite(losses).tolist() == [True, False, True]


def test_logits_of_minus_infinity_are_probabilities_of_zero() -> None:
    logits = torch.zeros(1, 2, 2, 3)
    logits[..., 0] = -math.inf  # no blank: one label cannot fill two frames
    logits.requires_grad_()
    arguments = (torch.tensor([[1]]), torch.tensor([2]), torch.tensor([1]))
    loss = full_sum_loss(logits, *arguments, reduction="none")
    assert torch.isposinf(loss).all()
    loss.sum().backward()
    assert (logits.grad == 0).all()


@ALL
def test_more_labels_than_frames(loss: Callable[..., Tensor]) -> None:
    short = {"logit_lengths": torch.tensor([3, 4, 5])}
    values = loss(**short, reduction="none")
    assert torch.isposinf(values).tolist() == [True, False, False]
    finite = values[1:].detach()
    torch.testing.assert_close(loss(**short, infeasible="skip"), finite.mean())
    torch.testing.assert_close(loss(**short, infeasible="skip", reduction="sum"), finite.sum())
    with pytest.raises(ValueError, match=r"sequences \[0\] of the batch have no alignment"):
        loss(**short, infeasible="error")
    assert torch.isfinite(loss(**short, topology="rnnt"))


@ALL
@pytest.mark.parametrize("infeasible", ["inf", "skip"])
def test_gradient_of_an_impossible_sequence_is_zero(
    loss: Callable[..., Tensor], infeasible: str
) -> None:
    key = "encoder_out" if loss is fused_loss else "logits"
    shape = {
        grid_loss: (BATCH, FRAMES, LABELS + 1, VOCAB),
        encoder_loss: (BATCH, FRAMES, VOCAB),
        fused_loss: (BATCH, FRAMES, 3),
    }[loss]
    scores = torch.randn(*shape, requires_grad=True)
    loss(**{key: scores}, logit_lengths=torch.tensor([3, 4, 5]), infeasible=infeasible).backward()
    assert scores.grad is not None
    assert (scores.grad[0] == 0).all()
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[1:] != 0).any()


@ALL
def test_all_sequences_impossible(loss: Callable[..., Tensor]) -> None:
    value = loss(logit_lengths=torch.tensor([1, 1, 1]), infeasible="skip")
    assert value.item() == 0.0
    value.backward()


@ALL
@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_no_labels_at_all(loss: Callable[..., Tensor], topology: str) -> None:
    nothing = {"target_lengths": torch.tensor([0, 0, 0]), "topology": topology}
    value = loss(**nothing, targets=torch.full((BATCH, LABELS), -1), reduction="none")
    assert torch.isfinite(value).all()
    value.sum().backward()


def test_empty_target_axis() -> None:
    logits = torch.randn(2, 3, 1, VOCAB, dtype=torch.float64)
    lengths = (torch.tensor([3, 2]), torch.tensor([0, 0]))
    targets = torch.zeros(2, 0, dtype=torch.long)
    wanted = -logits.log_softmax(-1)[:, :, 0, 0]
    loss = full_sum_loss(logits, targets, *lengths, reduction="none")
    torch.testing.assert_close(loss, torch.stack([wanted[0].sum(), wanted[1, :2].sum()]))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_empty_batch(reduction: str) -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    targets = torch.zeros(0, LABELS, dtype=torch.long)
    lengths = (nothing, nothing)
    shape = (0,) if reduction == "none" else ()
    grid = torch.zeros(0, FRAMES, LABELS + 1, VOCAB, requires_grad=True)
    flat = torch.zeros(0, FRAMES, VOCAB, requires_grad=True)
    losses = [
        full_sum_loss(grid, targets, *lengths, reduction=reduction),
        encoder_full_sum_loss(flat, targets, *lengths, reduction=reduction),
        viterbi_loss(flat, torch.zeros(0, FRAMES).long(), nothing, reduction=reduction),
        mbr_loss(torch.zeros(0, 2), torch.zeros(0, 2), reduction=reduction),
        fused_full_sum_loss(
            torch.zeros(0, FRAMES, 3, requires_grad=True),
            torch.zeros(0, LABELS + 1, 3),
            JointNetwork(3, 3, 4, VOCAB),
            targets,
            *lengths,
            reduction=reduction,
        ),
    ]
    for loss in losses:
        assert loss.shape == shape
        assert (loss == 0).all()


def test_viterbi_arguments() -> None:
    logits, lengths = torch.randn(2, 3, 4), torch.tensor([3, 2])
    alignment = torch.tensor([[0, 1, 4], [0, 2, 9]])
    with pytest.raises(ValueError, match=r"alignment\[0, 2\] = 4 lies outside 0\.\.3"):
        viterbi_loss(logits, alignment, lengths)
    with pytest.raises(ValueError, match="alignment has 2 frames, logits have 3"):
        viterbi_loss(logits, torch.zeros(2, 2).long(), torch.tensor([2, 2]))
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\), got 1\.5"):
        viterbi_loss(logits, alignment % 4, lengths, label_smoothing=1.5)
    with pytest.raises(ValueError, match="boost must not be negative, got -1"):
        viterbi_loss(logits, alignment % 4, lengths, boost=-1)


def test_mbr_arguments() -> None:
    with pytest.raises(ValueError, match=r"risks has shape \(2, 3\), log_probs \(2, 2\)"):
        mbr_loss(torch.zeros(2, 2), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        mbr_loss(torch.zeros(2, 2), torch.zeros(2, 2), scale=0)


def test_backends_say_what_they_cannot_do() -> None:
    assert "torch" in available_backends()
    with pytest.raises(ValueError, match=r"backend must be one of .*'cuda_magic'"):
        grid_loss(backend="cuda_magic")
    with pytest.raises(ValueError, match="knows the topology rnnt, not monotonic"):
        grid_loss(backend="torchaudio")
    with pytest.raises(ValueError, match="has no fastemit_lambda"):
        grid_loss(backend="torchaudio", topology="rnnt", fastemit_lambda=0.1)
    if not BACKENDS["warp_rnnt"].installed:
        assert "warp_rnnt" not in available_backends()
        with pytest.raises(ImportError, match="pip install"):
            grid_loss(backend="warp_rnnt", topology="rnnt")
