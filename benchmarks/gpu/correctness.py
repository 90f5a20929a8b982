"""Section b: every loss and search on the device against float64 on the CPU, value and gradient.

An error is ||out - ref|| / ||ref||, the reference computed in float64 from the very numbers that
the device was given (half-precision inputs are rounded first, then widened). NaN never passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from common import Section
from torch import Tensor

from espnet_plugin.losses import (
    available_backends,
    encoder_ce_loss,
    encoder_full_sum_loss,
    full_sum_loss,
    fused_full_sum_loss,
    mbr_loss,
    viterbi_loss,
)
from espnet_plugin.nn import FeedForwardPrediction, JointNetwork, LSTMPrediction

TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}
# Gradients in half precision are stored in it: their rounding is the floor.
GRAD_TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 2e-2}


def relative(found: Tensor, wanted: Tensor) -> float:
    """||found - wanted|| / ||wanted|| in float64; infinite where not finite at the same places."""
    found, wanted = found.detach().double().cpu(), wanted.detach().double().cpu()
    if found.shape != wanted.shape or not torch.isfinite(found).all():
        return math.inf
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-30))


class Checks:
    """Compares and records."""

    def __init__(self, section: Section) -> None:
        self.section, self.passed, self.failed = section, 0, 0

    def record(self, what: str, error: float, limit: float) -> None:
        """One comparison; only failures and the largest errors of a kind become rows."""
        good = error <= limit  # NaN never passes
        self.passed += good
        self.failed += not good
        if not good or "loss" not in what:
            self.section.row("checks", what=what, error=error, limit=limit, ok=bool(good))
        else:
            words = [w for w in what.split() if w not in ("monotonic", "rnnt", "-")]
            key = " ".join(
                words[: next(i for i, w in enumerate(words) if w.startswith("torch.")) + 1]
            )
            worst = self.section.data.setdefault("worst", {})
            worst[key] = max(worst.get(key, 0.0), error)


def problem(empty: bool = True) -> dict[str, Tensor]:
    """A ragged batch, drawn on the CPU in float64; ``empty``: one sequence has no labels."""
    generator = torch.Generator().manual_seed(7)
    batch, frames, labels, vocab = 3, 37, 9, 61
    return {
        "logits": torch.randn(batch, frames, labels + 1, vocab, generator=generator).double(),
        "targets": torch.randint(1, vocab, (batch, labels), generator=generator),
        "lengths": torch.tensor([37, 30, 12]),
        "target_lengths": torch.tensor([9, 4, 0 if empty else 1]),
        "encoder": torch.randn(batch, frames, 32, generator=generator).double(),
        "prediction": torch.randn(batch, labels + 1, 24, generator=generator).double(),
    }


def gradients(loss: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a [B] loss, its sequences weighted differently."""
    weights = torch.arange(1, len(loss) + 1, device=loss.device, dtype=loss.dtype)
    return list(torch.autograd.grad((loss * weights).sum(), leaves))


def compare(
    checks: Checks,
    what: str,
    dtype: torch.dtype,
    inputs: Sequence[Tensor],
    loss: Callable[..., Tensor],
    rounding: torch.dtype | None = None,
) -> None:
    """Value and gradients of ``loss(*inputs)`` on the device in ``dtype`` against float64 here.

    Args:
        rounding: dtype of the products inside, where it is not ``dtype``.
    """
    device = checks.section.device
    given = [x.to(dtype) for x in inputs]
    here = [x.double().requires_grad_() for x in given]
    there = [x.to(device).detach().requires_grad_() for x in given]
    wanted = loss(*here)
    found = loss(*there)
    checks.record(f"{what} value", relative(found, wanted), TOLERANCE[rounding or dtype])
    for n, (g, w) in enumerate(zip(gradients(found, there), gradients(wanted, here), strict=True)):
        checks.record(f"{what} gradient {n}", relative(g, w), GRAD_TOLERANCE[rounding or dtype])


def grid_losses(checks: Checks) -> None:
    """The loss on logits: backends, topologies, dtypes."""
    for backend in available_backends():
        for topology in ("monotonic", "rnnt"):
            if backend in ("torchaudio", "warp_rnnt") and topology == "monotonic":
                continue
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                for empty in (True, False):
                    what = f"{backend} {topology} {dtype}{'' if empty else ', no empty target'}"
                    checks.section.attempt(
                        f"grid loss {what}",
                        partial(grid_loss, checks, backend, topology, dtype, empty),
                    )


def grid_loss(checks: Checks, backend: str, topology: str, dtype: torch.dtype, empty: bool) -> None:
    """One case."""
    data = problem(empty)

    def loss(logits: Tensor) -> Tensor:
        rest = (data[k].to(logits.device) for k in ("targets", "lengths", "target_lengths"))
        used = "torch" if logits.dtype == torch.float64 else backend
        return full_sum_loss(logits, *rest, topology=topology, backend=used, reduction="none")

    what = f"grid-loss {backend} {topology} {dtype}{'' if empty else ', no empty target,'}"
    compare(checks, what, dtype, [data["logits"]], loss)


def fused_losses(checks: Checks) -> None:
    """The fused loss: backends, topologies; bfloat16 and float16 by autocast."""
    for backend in [
        name for name in available_backends() if name not in ("torchaudio", "warp_rnnt")
    ]:
        for topology in ("monotonic", "rnnt"):
            for low in (None, torch.bfloat16, torch.float16):
                checks.section.attempt(
                    f"fused loss {backend} {topology} {low}",
                    lambda b=backend, t=topology, d=low: fused_loss(checks, b, t, d),
                )


def fused_loss(checks: Checks, backend: str, topology: str, low: torch.dtype | None) -> None:
    """One case; parameters of the joint network are among the leaves."""
    data = problem()
    torch.manual_seed(3)
    joint = JointNetwork(32, 24, 40, 61)
    names = [name for name, _ in joint.named_parameters()]
    leaves = [data["encoder"].float(), data["prediction"].float(), *joint.parameters()]

    def loss(*tensors: Tensor) -> Tensor:
        device, exact = tensors[0].device, tensors[0].dtype == torch.float64
        module = JointNetwork(32, 24, 40, 61).to(device, tensors[0].dtype)

        def inner(encoder: Tensor, prediction: Tensor) -> Tensor:
            rest = (data[k].to(device) for k in ("targets", "lengths", "target_lengths"))
            with torch.autocast(
                device.type, dtype=low or torch.bfloat16, enabled=low is not None and not exact
            ):
                return fused_full_sum_loss(
                    encoder, prediction, module, *rest, topology=topology, reduction="none",
                    backend="torch" if exact else backend,
                )  # fmt: skip

        wrapped = Functional(module, inner)
        parameters = dict(zip(names, tensors[2:], strict=True))
        return torch.func.functional_call(
            wrapped, {f"module.{k}": v for k, v in parameters.items()}, tensors[:2]
        )

    what = f"fused-loss {backend} {topology} {low or torch.float32}"
    compare(checks, what, torch.float32, leaves, loss, rounding=low)


class Functional(torch.nn.Module):
    """A function of a module's parameters, for `functional_call`."""

    def __init__(self, module: torch.nn.Module, inner: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module, self.inner = module, inner

    def forward(self, *args: Tensor) -> Tensor:
        return self.inner(*args)


def other_losses(checks: Checks) -> None:
    """Frame-wise, encoder and sequence losses."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(3, 37, 61, generator=generator).double()
    alignment = torch.randint(0, 61, (3, 37), generator=generator)
    alignment[torch.rand(3, 37, generator=generator) < 0.6] = 0
    data = problem()
    risks = torch.rand(3, 4, generator=generator).double() * 5

    def on(device: torch.device, *tensors: Tensor) -> list[Tensor]:
        return [x.to(device) for x in tensors]

    cases: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {
        "viterbi": (
            logits,
            lambda x: viterbi_loss(x, *on(x.device, alignment, data["lengths"]), reduction="none"),
        ),
        "encoder-ce": (
            logits,
            lambda x: encoder_ce_loss(
                x, *on(x.device, alignment, data["lengths"]), reduction="none"
            ),
        ),
        "encoder-full-sum": (
            logits,
            lambda x: encoder_full_sum_loss(
                x, *on(x.device, data["targets"], data["lengths"], data["target_lengths"]),
                reduction="none",
            ),
        ),
        "mbr": (
            torch.randn(3, 4, generator=generator).double() - 3,
            lambda x: mbr_loss(x, risks.to(x.device, x.dtype), reduction="none"),
        ),
    }  # fmt: skip
    for name, (tensor, loss) in cases.items():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            checks.section.attempt(
                f"{name} loss {dtype}",
                lambda n=name, d=dtype, x=tensor, f=loss: compare(
                    checks, f"{n}-loss - {d}", d, [x], f
                ),
            )


def edges(checks: Checks) -> None:
    """Infeasible and broken sequences, and the same result twice."""
    device = checks.section.device
    data = problem()
    for backend in [b for b in available_backends() if b in ("torch", "triton")]:
        logits = data["logits"].float().to(device).requires_grad_()
        lengths = torch.tensor([37, 3, 12], device=device)  # 4 labels in 3 frames
        rest = data["targets"].to(device), lengths, data["target_lengths"].to(device)
        loss = full_sum_loss(logits, *rest, backend=backend, reduction="none")
        (gradient,) = torch.autograd.grad(loss[torch.isfinite(loss)].sum(), logits)
        good = bool(torch.isinf(loss[1])) and bool(torch.isfinite(gradient).all())
        checks.record(f"infeasible {backend}", 0.0 if good else 1.0, 0.5)
        broken = data["logits"].float().to(device)
        broken[0, 3, 2, 5] = math.nan
        loss = full_sum_loss(broken, *rest, backend=backend, reduction="none")
        good = bool(torch.isnan(loss[0])) and bool(torch.isfinite(loss[2]))
        checks.record(f"NaN stays in its sequence {backend}", 0.0 if good else 1.0, 0.5)
        torch.manual_seed(0)
        joint = JointNetwork(32, 24, 40, 61).to(device)
        encoder, prediction = (
            data[k].float().to(device).requires_grad_() for k in ("encoder", "prediction")
        )
        rest = tuple(data[k].to(device) for k in ("targets", "lengths", "target_lengths"))
        runs = []
        for _ in range(3):
            loss = fused_full_sum_loss(encoder, prediction, joint, *rest, backend=backend)
            runs.append(torch.autograd.grad(loss, [encoder, prediction, *joint.parameters()]))
        same = all(torch.equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))
        checks.record(f"same bits three times, fused {backend}", 0.0 if same else 1.0, 0.5)


def large(checks: Checks) -> None:
    """More than 2^31 logits: the grid against the fused loss in float32 on the same device."""
    section = checks.section
    frames, labels, vocab = (60, 12, 50) if section.tiny else (1100, 399, 5000)
    torch.manual_seed(1)
    device = section.device
    joint = JointNetwork(64, 64, 64, vocab).to(device)
    encoder, prediction = (torch.randn(1, n, 64, device=device) for n in (frames, labels + 1))
    targets = torch.randint(1, vocab, (1, labels), device=device)
    rest = targets, torch.tensor([frames]), torch.tensor([labels])
    backend = "triton" if "triton" in available_backends() and section.cuda else "torch"
    leaf = encoder.clone().requires_grad_()
    fused = fused_full_sum_loss(leaf, prediction, joint, *rest, topology="rnnt", backend=backend)
    (wanted,) = torch.autograd.grad(fused, leaf)
    with torch.no_grad():
        joint.to(torch.bfloat16)
        logits = joint(encoder[:, :, None].bfloat16(), prediction[:, None].bfloat16())
    logits.requires_grad_()
    grid = full_sum_loss(logits, *rest, topology="rnnt", backend=backend)
    checks.record(
        f"{logits.numel()} logits in bf16, grid = fused fp32, value", relative(grid, fused), 2e-2
    )
    (slope,) = torch.autograd.grad(grid, logits)
    # every frame carries the same occupancy, so its rows must hold a gradient, the last too
    used = slope[0, -1, -1].float().abs().sum()
    checks.record("last row of that grid has a gradient", 0.0 if used > 0 else 1.0, 0.5)
    del slope, logits
    assert torch.isfinite(wanted).all()


def _found(
    where: str, encoder: Tensor, lengths: Tensor, prediction: Any, joint: Any, words: Any, size: int
) -> dict[str, list[Any]]:
    """What every search finds on a device, by topology and name."""
    from espnet_plugin.search import PrefixTree, beam_search, greedy_search, lexicon_search

    parts = (encoder.to(where), lengths.to(where), prediction.to(where), joint.to(where))
    tree = PrefixTree(words, size, device=where)
    found: dict[str, list[Any]] = {}
    with torch.no_grad():
        for t in ("monotonic", "rnnt"):
            found[f"{t} greedy"] = [[h] for h in greedy_search(*parts, topology=t)]
            found[f"{t} beam"] = beam_search(*parts, beam=6, nbest=3, topology=t, ilm_scale=0.2)
            found[f"{t} lexicon"] = lexicon_search(*parts, tree, beam=12, nbest=2, topology=t)
    return found


def searches(checks: Checks) -> None:
    """Greedy, beam and lexicon search give the same hypotheses as on the CPU, scores to 1e-4."""
    from espnet_plugin.search import lexicon_entries

    device = checks.section.device
    torch.manual_seed(2)
    tokens = ["<blank>", *"abcdefghijk"]
    spellings = {
        w: [list(w)] for w in ("a", "ab", "bad", "cab", "head", "chief", "jig", "kid", "ed")
    }
    encoder = torch.randn(6, 40, 32)
    lengths = torch.tensor([40, 38, 31, 22, 10, 5])
    for kind in ("feedforward", "lstm"):
        make = FeedForwardPrediction if kind == "feedforward" else LSTMPrediction
        prediction = make(len(tokens), 16, 24).eval()
        joint = JointNetwork(32, prediction.output_size, 40, len(tokens)).eval()
        with torch.no_grad():
            joint.output.weight.mul_(3.0)
            joint.output.bias[0] += 1.0

        model = (prediction, joint, lexicon_entries(spellings, tokens), len(tokens))
        wanted = _found("cpu", encoder, lengths, *model)
        found = _found(device, encoder, lengths, *model)
        for name, lists in wanted.items():
            same, error = 0, 0.0
            for a, b in zip(lists, found[name], strict=True):
                same += [h.tokens for h in a] == [h.tokens for h in b]
                error = max([error, *(abs(x.score - y.score) for x, y in zip(a, b, strict=False))])
            checks.record(
                f"search {kind} {name}: unequal lists of {len(lists)}",
                float(len(lists) - same),
                0.5,
            )
            checks.record(f"search {kind} {name}: score", error, 1e-3)


def main() -> None:
    """Run the section."""
    section = Section("b", "Correctness on the device")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    checks = Checks(section)
    section.note("backends: " + ", ".join(available_backends()))
    for name, work in (
        ("grid losses", grid_losses),
        ("fused losses", fused_losses),
        ("other losses", other_losses),
        ("edges", edges),
        ("searches", searches),
        ("over 2^31 logits", large),
    ):
        section.attempt(name, lambda work=work: work(checks))
    for key, error in section.data.get("worst", {}).items():
        section.row("largest errors of passed losses", what=key, error=error)
    section.row("summary", passed=checks.passed, failed=checks.failed)


if __name__ == "__main__":
    main()
