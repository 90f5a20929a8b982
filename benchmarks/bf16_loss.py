"""How far bfloat16 moves the fused full-sum loss, and the part that the hidden layer has in it.

    python benchmarks/bf16_loss.py

Loss and gradients of random networks against float64: in float32; under bfloat16 autocast, where
the projected outputs, their sum, tanh and the products are bfloat16 on CUDA and CPU alike; and with
sum and tanh in float32 between bfloat16 projections and products. Runs on a CPU.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from espnet_plugin.losses import fused_full_sum_loss
from espnet_plugin.losses.engines.joint_inputs import JointInputs
from espnet_plugin.nn import FeedForwardPrediction, JointNetwork

MODES = ("float32", "bfloat16", "bfloat16, sum in float32")
SHAPES = ((144, 30, 1.0), (1024, 80, 1.0), (1024, 80, 3.0))  # joint, labels, encoder's deviation
LENGTHS, LABELS = torch.tensor([120, 110, 100, 90]), torch.tensor([30, 25, 20, 15])


@contextlib.contextmanager
def float32_sums() -> Iterator[None]:
    """The hidden layer's inputs converted before they are added."""
    rows = JointInputs.rows

    def wider(self: JointInputs) -> tuple[Tensor, Tensor]:
        encoder, prediction = rows(self)
        return encoder.to(self.sum_dtype), prediction.to(self.sum_dtype)

    with mock.patch.object(JointInputs, "rows", wider):
        yield


def measure(
    mode: str, seed: int, joint_size: int, vocab_size: int, deviation: float, topology: str
) -> tuple[Tensor, Tensor]:
    """Losses [B] and all gradients in one vector, both float64."""
    torch.manual_seed(seed)
    encoder = deviation * torch.randn(4, 120, 256)
    targets = torch.randint(1, vocab_size, (4, 30))
    prediction = FeedForwardPrediction(vocab_size, embed_size=64, hidden_size=256, context=1)
    joint = JointNetwork(256, 256, joint_size, vocab_size)
    with torch.no_grad():
        joint.output.weight.mul_(4.0)  # as sure of itself as a trained one
    if mode == "float64":
        encoder, prediction, joint = encoder.double(), prediction.double(), joint.double()
    encoder.requires_grad_()
    with contextlib.ExitStack() as stack:
        if mode.startswith("bfloat16"):
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        if mode.endswith("float32") and mode != "float32":
            stack.enter_context(float32_sums())
        loss = fused_full_sum_loss(
            encoder, prediction(targets), joint, targets, LENGTHS, LABELS,
            topology=topology, reduction="none",
        )  # fmt: skip
        loss.sum().backward()
    gradients = [encoder.grad, *(p.grad for p in joint.parameters())]
    return loss.detach().double(), torch.cat([g.double().flatten() for g in gradients])


def main() -> None:
    """A Markdown table; largest of three seeds for losses, mean for gradients."""
    print("| joint, labels, deviation, topology | mode | loss, relative | gradient, relative |")
    print("| --- | --- | --- | --- |")
    for shape in SHAPES:
        for topology in ("monotonic", "rnnt"):
            for mode in MODES:
                losses, gradients = [], []
                for seed in range(3):
                    loss, gradient = measure(mode, seed, *shape, topology)
                    exact, slope = measure("float64", seed, *shape, topology)
                    losses.append(float(((loss - exact) / exact).abs().max()))
                    gradients.append(float((gradient - slope).norm() / slope.norm()))
                row = f"{max(losses):.1e} | {sum(gradients) / 3:.1e}"
                print(f"| {', '.join(map(str, shape))}, {topology} | {mode} | {row} |", flush=True)


if __name__ == "__main__":
    main()
