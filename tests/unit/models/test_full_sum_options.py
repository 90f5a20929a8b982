"""`loss_conf` of full_sum: a band around the alignment, pruning, FastEmit and delay penalty."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from espnet_plugin.losses import full_sum_loss
from espnet_plugin.models.batch import Batch, EncoderOutput
from espnet_plugin.models.criteria import FullSumCriterion
from espnet_plugin.nn import FeedForwardPrediction, JointNetwork
from espnet_plugin.pipeline.plan.config import PipelineConfig
from espnet_plugin.pipeline.plan.scheduler import make_plan
from tests.unit.models.test_progressive import aligned, build, data

V, D, T = 5, 6, 5  # vocabulary, sizes, frames
ALIGNMENT = torch.tensor([[0, 2, 0, 1, 0], [3, 0, 0, -1, -1]])  # [B, T]
LENGTHS, LABELS = torch.tensor([5, 3]), torch.tensor([2, 1])


class Parts(nn.Module):
    """What a criterion uses of a model."""

    blank_id = 0

    def __init__(self, topology: str = "monotonic") -> None:
        super().__init__()
        torch.manual_seed(3)
        self.topology = topology
        self.joint_network = JointNetwork(D, D, 7, V)
        self.prediction = FeedForwardPrediction(V, 4, D)
        self.output = nn.Linear(D, V)
        self.double()

    def encoder_logits(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.output(frames)
        return logits


def batch(**more: Any) -> Batch:
    torch.manual_seed(5)
    encoder = EncoderOutput(torch.randn(2, T, D, dtype=torch.float64), LENGTHS)
    return Batch(encoder, torch.tensor([[2, 1], [3, 0]]), LABELS, ["a", "b"], **more)


def loss_of(parts: Parts, what: Batch, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    loss, stats, _ = FullSumCriterion(**options)(parts, what)  # type: ignore[arg-type]
    return loss, stats


def path_scores(parts: Parts, what: Batch, path: list[tuple[int, int, int]], row: int) -> Tensor:
    """log p of each step (frame, labels before it, symbol) of a path."""
    grid = parts.joint_network(
        what.encoder.frames[row, :, None], parts.prediction(what.targets)[row, None]
    ).log_softmax(-1)  # [T, S+1, V]
    return torch.stack([grid[step] for step in path])


#: The two alignments, step by step.
MONOTONIC = (
    [(0, 0, 0), (1, 0, 2), (2, 1, 0), (3, 1, 1), (4, 2, 0)],
    [(0, 0, 3), (1, 1, 0), (2, 1, 0)],
)


def test_a_band_of_no_width_leaves_the_alignment_alone() -> None:
    parts, what = Parts(), batch(alignment=ALIGNMENT)
    loss, _ = loss_of(parts, what, band=[0, 0])
    paths = [path_scores(parts, what, path, row).sum() for row, path in enumerate(MONOTONIC)]
    torch.testing.assert_close(loss, -torch.stack(paths).mean())


def test_in_the_rnnt_topology_labels_stay_near_their_frames() -> None:
    """With no width the labels' frames are fixed; one path is left, as blanks end the frames."""
    parts = Parts("rnnt")
    symbols = torch.tensor([[0, 2, 0, 0, 1, 0, 0], [3, 0, 0, 0, -1, -1, -1]])
    frames = torch.tensor([[0, 1, 1, 2, 3, 3, 4], [0, 0, 1, 2, 0, 0, 0]])
    what = batch(alignment=symbols, step_frames=frames, step_lengths=torch.tensor([7, 4]))
    loss, _ = loss_of(parts, what, band=[0, 0])
    paths = (
        [(0, 0, 0), (1, 0, 2), (1, 1, 0), (2, 1, 0), (3, 1, 1), (3, 2, 0), (4, 2, 0)],
        [(0, 0, 3), (0, 1, 0), (1, 1, 0), (2, 1, 0)],
    )
    wanted = [path_scores(parts, what, path, row).sum() for row, path in enumerate(paths)]
    torch.testing.assert_close(loss, -torch.stack(wanted).mean())


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_what_restricts_nothing_is_the_full_sum(topology: str) -> None:
    parts, what = Parts(topology), batch(alignment=ALIGNMENT)
    plain, _ = loss_of(parts, what)
    banded, _ = loss_of(parts, what, band=[T, T])
    torch.testing.assert_close(banded, plain)
    pruned, stats = loss_of(parts, what, s_range=3, simple_scale=0.0)
    torch.testing.assert_close(pruned, plain)
    # The simple joint network, its grid written out.
    joint = parts.joint_network
    silent = joint.combine(
        joint.encoder_proj(torch.zeros(D, dtype=torch.float64)),
        joint.prediction_proj(parts.prediction(what.targets)),
    )  # [B, S+1, V]
    grid = parts.output(what.encoder.frames)[:, :, None] + silent[:, None]  # [B, T, S+1, V]
    simple = full_sum_loss(grid, what.targets, LENGTHS, LABELS, topology=topology)
    torch.testing.assert_close(stats["loss_simple"], simple)
    weighted, _ = loss_of(parts, what, s_range=3)
    torch.testing.assert_close(weighted, plain + 0.5 * simple)


def test_restrictions_take_paths_away() -> None:
    parts, what = Parts(), batch(alignment=ALIGNMENT)
    plain = loss_of(parts, what)[0].item()
    losses = [loss_of(parts, what, band=[n, n])[0].item() for n in (0, 1, 4)]
    assert losses[0] > losses[1] > losses[2] == pytest.approx(plain)
    assert loss_of(parts, what, s_range=2, simple_scale=0.0)[0].item() > plain


def test_pruning_trains_the_encoders_output_layer_by_its_simple_joint_network() -> None:
    parts, what = Parts(), batch()
    loss_of(parts, what, s_range=2)[0].backward()
    assert parts.output.weight.grad is not None and parts.output.weight.grad.abs().sum() > 0


def test_delay_penalty_of_a_single_path_in_closed_form() -> None:
    parts, what = Parts(), batch(alignment=ALIGNMENT)
    alone, _ = loss_of(parts, what, band=[0, 0])
    penalised, _ = loss_of(parts, what, band=[0, 0], delay_penalty=0.3)
    # labels at frames 1 and 3 of 5, and at frame 0 of 3: lambda * ((T - 1)/2 - t) each
    bonus = 0.3 * ((2 - 1) + (2 - 3) + (1 - 0)) / 2
    torch.testing.assert_close(penalised, alone - bonus)


def test_fastemit_scales_the_gradient_of_labels_and_not_the_value() -> None:
    """On a single path: the gradient of its label steps is multiplied by 1 + lambda."""
    parts, what = Parts(), batch(alignment=ALIGNMENT)
    loss, _ = loss_of(parts, what, band=[0, 0], fastemit_lambda=0.5)
    loss.backward()
    found = parts.joint_network.output.weight.grad.clone()
    parts.zero_grad()
    torch.testing.assert_close(loss.detach(), loss_of(parts, what, band=[0, 0])[0].detach())
    total = torch.zeros((), dtype=torch.float64)
    for row, path in enumerate(MONOTONIC):
        scores = path_scores(parts, what, path, row)
        factors = torch.tensor([1.5 if symbol else 1.0 for *_, symbol in path])
        total = total - (scores * factors).sum()
    (total / 2).backward()
    torch.testing.assert_close(found, parts.joint_network.output.weight.grad)


@pytest.mark.parametrize(
    "options", [{"band": [0, 0]}, {"s_range": 2}, {"delay_penalty": 1.0, "fastemit_lambda": 0.1}]
)
def test_validation_is_the_plain_full_sum(options: dict[str, Any]) -> None:
    parts, what = Parts().eval(), batch(alignment=ALIGNMENT)
    loss, stats = loss_of(parts, what, **options)
    torch.testing.assert_close(loss, loss_of(parts, what)[0])
    assert "loss_simple" not in stats


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"band": [5]}, "loss_conf.band must be [LEFT, RIGHT]"),
        ({"band": [5, -1]}, "loss_conf.band must be [LEFT, RIGHT]"),
        ({"band": [0.5, 1]}, "loss_conf.band must be [LEFT, RIGHT]"),
        ({"band": "10"}, "loss_conf.band must be [LEFT, RIGHT]"),
        ({"s_range": 1}, "loss_conf.s_range must be at least 2"),
        ({"s_range": 4, "band": [1, 1]}, "goes without a band"),
        ({"simple_scale": -1.0}, "negative loss weight"),
        ({"fastemit_lambda": -0.1}, "fastemit_lambda must not be negative"),
        ({"delay_penalty": -0.1}, "delay_penalty must not be negative"),
        ({"backend": "torchaudio", "s_range": 4}, "'torchaudio' has no restriction"),
        ({"backend": "warp_rnnt", "delay_penalty": 1.0}, "'warp_rnnt' has no delay_penalty"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        FullSumCriterion(**options)


def test_a_band_makes_the_stage_need_an_alignment() -> None:
    stages: dict[str, Any] = {"align": {}, "full_sum": {"loss_conf": {"band": [4, 8]}}}
    plan = make_plan(PipelineConfig(Path("p"), "progressive", {}, stages))
    assert [stage.needs for stage in plan] == [None, "alignment"]
    only = PipelineConfig(Path("p"), "full_sum_only", {}, stages)
    with pytest.raises(ValueError, match="needs an alignment, but no stage before it"):
        make_plan(only)


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_a_model_trains_and_validates_with_a_band(topology: str) -> None:
    model = build(loss_conf={"band": [1, 2], "delay_penalty": 0.01}, topology=topology)
    plain = build(topology=topology)
    loss, stats, _ = model(**aligned())
    loss.backward()
    assert torch.isfinite(loss) and stats["infeasible"] == 0
    assert model.joint_network.output.weight.grad.abs().sum() > 0
    plain.load_state_dict(model.state_dict())  # statistics of batch norm moved
    torch.testing.assert_close(model.eval()(**aligned())[0], plain.eval()(**data())[0])
    with pytest.raises(ValueError, match="needs the data 'alignment'"):
        model(**data())
