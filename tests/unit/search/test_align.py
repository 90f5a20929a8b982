"""Forced alignment against enumeration of all paths; alignment figures."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from torch import Tensor

from espnet_plugin.nn import FeedForwardPrediction, JointNetwork, LSTMPrediction
from espnet_plugin.search import (
    LabelPrior,
    alignment_quality,
    estimate_log_prior,
    forced_align,
    forced_align_transducer,
    label_frames,
)
from espnet_plugin.search.align.entries import entry_labels, frame_count, path_entries
from tests.reference.search_enumeration import best_alignment

LENGTHS = torch.tensor([5, 4, 3, 5, 3])
TARGET_LENGTHS = torch.tensor([3, 2, 3, 0, 1])


def batch(blank: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    log_probs = torch.randn(5, 5, 4).double().log_softmax(-1)
    labels = torch.tensor([v for v in range(4) if v != blank])
    targets = labels[torch.randint(0, 3, (5, 3))]
    for b, n in enumerate(TARGET_LENGTHS):
        targets[b, n:] = -1
    return log_probs, targets


def best_path(
    log_probs: Tensor, target: list[int], prior: Tensor | None, blank: int
) -> tuple[float, list[int]]:
    best = (-math.inf, [])
    for path in itertools.product(range(log_probs.shape[1]), repeat=log_probs.shape[0]):
        if [v for v in path if v != blank] == target:
            score = sum(log_probs[t, v].item() for t, v in enumerate(path))
            if prior is not None:
                score -= 0.3 * sum(prior[v].log().item() for v in path)
            best = max(best, (score, list(path)))
    return best


@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("prior_as", [None, "probability", "logarithm"])
def test_forced_align_finds_the_best_path(blank: int, prior_as: str | None) -> None:
    log_probs, targets = batch(blank)
    prior = torch.tensor([0.6, 0.2, 0.15, 0.05]).double() if prior_as else None
    given = prior.log() if prior_as == "logarithm" else prior
    alignment, score = forced_align(
        log_probs, targets, LENGTHS, TARGET_LENGTHS, blank=blank, prior=given
    )
    assert alignment.shape == (5, 5) and alignment.dtype == torch.int64
    for b in range(5):
        frames, labels = int(LENGTHS[b]), targets[b, : TARGET_LENGTHS[b]].tolist()
        wanted, path = best_path(log_probs[b, :frames], labels, prior, blank)
        assert score[b].item() == pytest.approx(wanted)
        assert alignment[b, :frames].tolist() == path
        assert (alignment[b, frames:] == blank).all()


def test_more_labels_than_frames() -> None:
    log_probs, targets = batch()
    short = torch.tensor([5, 1, 3, 5, 3])
    with pytest.raises(ValueError, match=r"1: 2 > 1"):
        forced_align(log_probs, targets, short, TARGET_LENGTHS)
    alignment, score = forced_align(log_probs, targets, short, TARGET_LENGTHS, infeasible="skip")
    assert score[1] == -math.inf and (alignment[1] == 0).all()
    assert torch.isfinite(score[[0, 2, 3, 4]]).all()
    with pytest.raises(ValueError, match="infeasible"):
        forced_align(log_probs, targets, short, TARGET_LENGTHS, infeasible="ignore")


def test_forced_align_rejects_what_cannot_be_aligned() -> None:
    log_probs, targets = batch()
    good = (log_probs, targets, LENGTHS, TARGET_LENGTHS)
    with pytest.raises(ValueError, match="exceed"):
        forced_align(log_probs, targets, LENGTHS + 1, TARGET_LENGTHS)
    with pytest.raises(ValueError, match=r"targets\[0, 0\] = 0"):
        forced_align(log_probs, targets * 0, LENGTHS, TARGET_LENGTHS)
    with pytest.raises(ValueError, match=r"targets\[0, 0\]"):
        forced_align(log_probs, targets + 10, LENGTHS, TARGET_LENGTHS)
    with pytest.raises(ValueError, match="blank 9"):
        forced_align(*good, blank=9)
    with pytest.raises(ValueError, match="prior has shape"):
        forced_align(*good, prior=torch.ones(3))
    with pytest.raises(ValueError, match="mixes"):
        forced_align(*good, prior=torch.tensor([0.5, -0.1, 0.3, 0.3]))
    with pytest.raises(ValueError, match="NaN"):
        forced_align(*good, prior=torch.full((4,), math.nan))
    with pytest.raises(ValueError, match=r"\[B, T, V\]"):
        forced_align(log_probs[0], targets, LENGTHS, TARGET_LENGTHS)
    with pytest.raises(ValueError, match="must both be"):
        forced_align(log_probs, targets, LENGTHS[:2], TARGET_LENGTHS)


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_realignment_finds_the_best_path(topology: str, recurrent: bool) -> None:
    torch.manual_seed(1)
    network = LSTMPrediction if recurrent else FeedForwardPrediction
    prediction, joint = network(4, 3, 5).double().eval(), JointNetwork(6, 5, 7, 4).double().eval()
    encoder = torch.randn(3, 3, 6).double()
    lengths, target_lengths = torch.tensor([3, 2, 2]), torch.tensor([2, 2, 1])
    targets = torch.tensor([[1, 3], [2, 2], [3, -1]])
    alignment, score = forced_align_transducer(
        encoder, prediction, joint, targets, lengths, target_lengths, topology=topology
    )
    for b in range(3):

        @functools.cache
        def log_probs(t: int, labels: tuple[int, ...], b: int = b) -> list[float]:
            prefix = torch.tensor([labels], dtype=torch.long).view(1, -1)
            with torch.no_grad():
                return joint(encoder[b, t], prediction(prefix)[0, -1]).log_softmax(-1).tolist()

        target = tuple(targets[b, : target_lengths[b]].tolist())
        wanted = best_alignment(log_probs, int(lengths[b]), 4, topology, target)
        assert score[b].item() == pytest.approx(wanted)
        steps = alignment[b].tolist()
        assert tuple(v for v in steps if v) == target
        t, labels, total = 0, (), 0.0
        while t < lengths[b]:
            step = steps.pop(0)
            total += log_probs(t, labels)[step]
            t += topology == "monotonic" or step == 0
            labels += (step,) if step else ()
        assert total == pytest.approx(wanted) and not any(steps)


def test_realignment_names_the_infeasible_sequence() -> None:
    prediction, joint = FeedForwardPrediction(4, 3, 5).eval(), JointNetwork(6, 5, 7, 4).eval()
    arguments = (
        torch.randn(1, 1, 6),
        prediction,
        joint,
        torch.tensor([[1, 2]]),
        torch.tensor([1]),
        torch.tensor([2]),
    )
    with pytest.raises(ValueError, match="0: 2 > 1"):
        forced_align_transducer(*arguments)
    assert forced_align_transducer(*arguments, infeasible="skip")[1].item() == -math.inf
    assert forced_align_transducer(*arguments, topology="rnnt")[1].isfinite()


def test_label_prior_is_the_average_posterior_of_valid_frames() -> None:
    log_probs, _ = batch()
    expected = torch.cat([log_probs[b, :n] for b, n in enumerate(LENGTHS)]).exp().mean(0).log()
    found = estimate_log_prior([(log_probs[:2], LENGTHS[:2]), (log_probs[2:], LENGTHS[2:])])
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    whole = LabelPrior(log_probs.shape[-1])
    for rows in (slice(0, 2), slice(2, None)):
        part = LabelPrior(log_probs.shape[-1])
        part.add(log_probs[rows], LENGTHS[rows])
        whole.add_sums(*part.sums())
    assert torch.equal(whole.log_prior(), found)
    with pytest.raises(ValueError, match="no frames"):
        LabelPrior(3).log_prior()
    with pytest.raises(ValueError, match="no batches"):
        estimate_log_prior([])


def test_alignment_quality_figures() -> None:
    first = [[0, 1, 0, 2], [0, 0, 3]]
    second = [[1, 0, 0, 2], [3, 0, 0]]
    quality = alignment_quality(first, [-1.0, -6.0], other=second, tolerance=1)
    assert label_frames(first[0]) == [1, 3]
    assert (quality.utterances, quality.frames, quality.labels) == (2, 7, 3)
    assert quality.score_per_frame == pytest.approx(-1.0)
    assert quality.label_share == pytest.approx(3 / 7)
    assert quality.mean_shift == pytest.approx((1 + 0 + 2) / 3)
    assert quality.within == pytest.approx(2 / 3)
    assert alignment_quality(first).mean_shift is None
    with pytest.raises(ValueError, match="different label sequences"):
        alignment_quality(first, other=[[1, 1, 0, 0], [0, 0, 3]])
    with pytest.raises(ValueError, match="no alignment frames"):
        alignment_quality([])
    with pytest.raises(ValueError, match="1 scores"):
        alignment_quality(first, [1.0])
    with pytest.raises(ValueError, match="against 1"):
        alignment_quality(first, other=[[1]])


def test_entries_of_an_rnnt_path() -> None:
    path = [0, 3, 0, 1, 2, 2, 0, 0]
    entries = path_entries(path)
    assert entries == [0, 3, -1, -2, 2, 0]
    assert entry_labels(entries) == [3, 1, 2, 2] and label_frames(entries) == [1, 2, 2, 2]
    assert frame_count(entries) == 4
    assert path_entries([]) == [] and path_entries([0, 0]) == [0, 0]
    with pytest.raises(ValueError, match="ends in label 2"):
        path_entries([0, 1, 2])
    quality = alignment_quality([entries], other=[[3, -1, -2, 2, 0, 0]])
    assert (quality.frames, quality.labels, quality.mean_shift) == (4, 4, 1.0)
