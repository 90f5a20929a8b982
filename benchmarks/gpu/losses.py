"""Section c: time and memory of the full-sum losses, joint network included, against their peers.

The floor is what the joint network's products alone would take at the rate section a measured:
forward, recomputed forward, and the two products of the backward pass, 8 C J V operations for C
cells (4 more products of a grid's forward are not recomputed: 6 C J V).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial

import torch
from background import finished
from common import ROOT, Section, ceilings
from torch import Tensor

from benchmarks.loss import Problem, Shape, grid, warp_rnnt
from espnet_plugin.losses import available_backends, fused_full_sum_loss

JOINT = 640
SHAPES: tuple[Shape, ...] = ((8, 400, 100, 5000), (32, 400, 100, 5000), (8, 250, 60, 500))
TINY: tuple[Shape, ...] = ((2, 24, 5, 40), (3, 24, 5, 40))


def fused(problem: Problem, topology: str, backend: str, budget: int | None = None) -> Tensor:
    """Our fused loss on one backend; ``budget`` in MiB."""
    return fused_full_sum_loss(
        problem.encoder, problem.prediction, problem.joint, *problem.rest,
        topology=topology, backend=backend, memory_budget=budget and budget << 20,
    )  # fmt: skip


def torchaudio_loss(problem: Problem) -> Tensor:
    """torchaudio on materialised logits, which it wants in float32 (its CPU part) or float16."""
    from torchaudio.functional import rnnt_loss

    device = problem.encoder.device
    lengths = (x.to(device, torch.int32) for x in (problem.lengths, problem.target_lengths))
    return rnnt_loss(problem.logits().float(), problem.targets.int(), *lengths, blank=0)


def contestants(cuda: bool) -> dict[str, Callable[[Problem], Tensor]]:
    """Who takes part; the most telling first."""
    names = [b for b in available_backends() if b not in ("torchaudio", "warp_rnnt")]
    if not cuda:
        names = ["torch"]  # kernels under the interpreter are no benchmark
    names.sort(key=["triton_fused", "triton", "torch"].index)
    found: dict[str, Callable[[Problem], Tensor]] = {}
    for topology in ("rnnt", "monotonic"):
        for name in names:
            found[f"fused {topology}, {name}"] = partial(fused, topology=topology, backend=name)
    if "triton_fused" in names:
        for budget in (64, 128, 512, 1024):
            what = f"fused rnnt, triton_fused, {budget} MiB"
            found[what] = partial(fused, topology="rnnt", backend="triton_fused", budget=budget)
    found["torchaudio, logits"] = torchaudio_loss
    if importlib.util.find_spec("warp_rnnt") is not None and cuda:
        found["warp_rnnt, logits"] = warp_rnnt
    found["grid rnnt, logits"] = grid
    return found


def reason(name: str, shape: Shape, kind: str) -> str | None:
    """Why a contestant does not take part, or None."""
    batch, frames, labels, vocab = shape
    if "logits" in name and batch * frames * (labels + 1) * vocab >= 2**31:
        if "grid" not in name:
            # torchaudio: an illegal memory access, after which the process is lost
            return "cannot address 2^31 logits"
        if kind != "bf16":
            return "logits and their gradient take 52 GB"
    if "MiB" in name and (batch == 32 or vocab < 5000):
        return "one shape tells"
    return None


def products(shape: Shape, name: str) -> float:
    """Operations of the joint network's products, forward and backward."""
    batch, frames, labels, vocab = shape
    cells = batch * frames * (labels + 1)
    if "monotonic" in name:  # what can lie on a path
        cells = batch * (labels + 1) * (frames - labels + 1)
    return (8 if "fused" in name else 6) * cells * JOINT * vocab


def measure(section: Section, shape: Shape, kind: str, name: str, rates: dict[str, float]) -> None:
    """One row; ``kind`` of products: bf16, tf32 or fp32."""
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    loss = contestants(section.cuda)[name]
    problem = Problem.make(shape, section.device, torch.float32, 1.0)

    def step() -> None:
        for tensor in (problem.encoder, problem.prediction, *problem.joint.parameters()):
            tensor.grad = None
        with torch.autocast(
            torch.device(section.device).type, dtype=torch.bfloat16, enabled=kind == "bf16"
        ):
            value = loss(problem)
        value.backward()

    step()  # compiles kernels
    peak = section.peak_bytes(step)
    seconds = section.seconds(step, repeats=9, warmup=1, at_most=2.0)
    rate = rates.get(kind)
    section.row(
        "losses", shape=str(shape), dtype=kind, loss=name, ms=1e3 * seconds,
        MiB=None if peak is None else round(peak / 2**20),
        floor_share=None if rate is None else products(shape, name) / rate / seconds,
    )  # fmt: skip


def main() -> None:
    """Run the section."""
    section = Section("c", "Full-sum losses, forward and backward, joint network included")
    section.note(finished("warp_rnnt", min(60.0, section.left / 3)))
    torch.backends.cuda.matmul.allow_tf32 = False
    rates = ceilings(section.out)
    assert ROOT  # the tree is on the path
    for shape in TINY if section.tiny else SHAPES:
        for kind in ("bf16", "fp32", "tf32"):
            for name in contestants(section.cuda):
                if why := reason(name, shape, kind):
                    section.row("left out", what=f"{name} {shape} {kind}", why=why)
                    continue
                section.attempt(
                    f"{name} {shape} {kind}",
                    partial(measure, section, shape, kind, name, rates),
                )
    ratios(section)
    section.write()


def ratios(section: Section) -> None:
    """Each loss over torchaudio at the same shape and dtype."""
    rows = section.data["tables"].get("losses", [])
    for row in list(rows):
        case = (row["shape"], row["dtype"])
        peers = [r for r in rows if (r["shape"], r["dtype"]) == case and "torchaudio" in r["loss"]]
        if peers and row is not peers[0]:
            memory = row["MiB"] / peers[0]["MiB"] if row["MiB"] is not None else None
            section.row(
                "against torchaudio", shape=row["shape"], dtype=row["dtype"], loss=row["loss"],
                time=row["ms"] / peers[0]["ms"], memory=memory,
            )  # fmt: skip


if __name__ == "__main__":
    main()
