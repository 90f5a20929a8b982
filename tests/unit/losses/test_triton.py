"""Triton kernels: run by Triton's interpreter on a CPU, or on a GPU when there is one.

The interpreter has to be chosen before Triton is imported, so without a GPU one test runs this
file again in a process of its own, where the others are no longer skipped.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from espnet_plugin.lattice import accumulate
from espnet_plugin.losses import full_sum_loss, fused_full_sum_loss
from espnet_plugin.losses.engines.rows import TorchRows
from espnet_plugin.nn import JointNetwork
from tests.reference import transducer as reference

HAVE_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
TOPOLOGIES = ["monotonic", "rnnt"]

pytestmark = [
    pytest.mark.skipif(not HAVE_TRITON, reason="Triton is not installed"),
    # NumPy, inside the interpreter, warns where a kernel takes log 0 or masks an overflow.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
runs_kernels = pytest.mark.skipif(
    not INTERPRETED and DEVICE == "cpu", reason="runs in test_under_the_interpreter"
)


@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the kernels run in this process")
def test_under_the_interpreter() -> None:
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        cwd=root,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout


@runs_kernels
@pytest.mark.parametrize("width", [1, 2, 5, 70])
def test_recursion(width: int) -> None:
    from espnet_plugin.lattice import triton_recursion

    torch.manual_seed(width)
    blank = torch.randn(9, 4, width, dtype=torch.float64)
    label = torch.randn(9, 4, width - 1, dtype=torch.float64)
    blank[torch.rand_like(blank) < 0.2] = -torch.inf
    label[torch.rand_like(label) < 0.2] = -torch.inf
    start = torch.full((4, width), -torch.inf, dtype=torch.float64)
    start[:, 0] = 0.0
    ours = triton_recursion.accumulate(*(x.to(DEVICE) for x in (blank, label, start)))
    torch.testing.assert_close(ours.cpu(), accumulate(blank, label, start), rtol=1e-12, atol=0)


@runs_kernels
@pytest.mark.parametrize("vocab_size", [2, 79, 128, 5000])
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
def test_rows(vocab_size: int, dtype: torch.dtype) -> None:
    from espnet_plugin.losses.engines.triton_rows import TritonRows

    torch.manual_seed(0)
    logits = (4 * torch.randn(6, vocab_size)).to(dtype).to(DEVICE)
    labels = torch.randint(1, vocab_size, (6,), device=DEVICE)
    weights = torch.rand(2, 6, dtype=torch.float64, device=DEVICE)
    weights[:, 3] = 0.0
    weights = weights.to(torch.float64 if dtype == torch.float64 else torch.float32)
    for ours, theirs in zip(
        TritonRows().arc_scores(logits, labels, 0),
        TorchRows().arc_scores(logits, labels, 0),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    logits[3] = torch.nan  # a row without weight is never read
    ours = TritonRows().slopes(logits, labels, 0, *weights)
    assert ours.dtype == dtype
    assert (ours[3] == 0).all()
    torch.testing.assert_close(ours, TorchRows().slopes(logits, labels, 0, *weights))


def grid_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(3)
    logits = torch.randn(3, 6, 4, 7, dtype=torch.float64, device=DEVICE)
    logits[1, 4:] = torch.nan  # padding
    targets = torch.randint(1, 7, (3, 3), device=DEVICE)
    return logits, targets, torch.tensor([6, 4, 3]), torch.tensor([3, 2, 0])


@runs_kernels
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_loss_equals_enumeration(topology: str) -> None:
    logits, targets, lengths, target_lengths = grid_batch()
    logits.requires_grad_()
    losses = full_sum_loss(
        logits,
        targets,
        lengths,
        target_lengths,
        topology=topology,
        reduction="none",
        backend="triton",
    )
    losses.sum().backward()
    assert logits.grad is not None
    for b in range(3):
        frames, labels = int(lengths[b]), int(target_lengths[b])
        value, gradient = reference.enumerate_loss(
            logits[b, :frames, : labels + 1].detach().cpu().numpy(),
            targets[b, :labels].tolist(),
            0,
            topology,
        )
        assert losses[b].item() == pytest.approx(value, rel=1e-10)
        ours = logits.grad[b].cpu()
        torch.testing.assert_close(
            ours[:frames, : labels + 1], torch.from_numpy(gradient), rtol=1e-8, atol=1e-12
        )
        assert (ours[frames:] == 0).all()
        assert (ours[:, labels + 1 :] == 0).all()


@runs_kernels
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_fused_loss_equals_torch(topology: str, dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    joint = JointNetwork(4, 4, 8, 20).to(dtype)
    encoder = torch.randn(2, 7, 4, dtype=dtype)
    prediction = torch.randn(2, 5, 4, dtype=dtype)
    targets = torch.randint(1, 20, (2, 4))
    lengths = (torch.tensor([7, 5]), torch.tensor([4, 2]))

    def run(backend: str, device: str) -> list[Tensor]:
        module = JointNetwork(4, 4, 8, 20).to(dtype)
        module.load_state_dict(joint.state_dict())
        module.to(device)
        inputs = [x.clone().to(device).requires_grad_() for x in (encoder, prediction)]
        loss = fused_full_sum_loss(
            inputs[0],
            inputs[1],
            module,
            targets.to(device),
            *lengths,
            topology=topology,
            backend=backend,
            delay_penalty=0.1,
            fastemit_lambda=0.2,
        )
        grads = torch.autograd.grad(loss, [*inputs, *module.parameters()])
        return [x.detach().cpu() for x in (loss, *grads)]

    for ours, theirs in zip(run("triton", DEVICE), run("torch", "cpu"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@runs_kernels
@pytest.mark.parametrize("backend", ["triton", "triton_fused"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_fused_loss_in_many_chunks(backend: str, topology: str, dropout: float) -> None:
    """Chunks that end within a frame and a sequence, a joint wider than a tile, and dropout."""
    torch.manual_seed(6)
    joint = JointNetwork(4, 4, 140, 20, dropout=dropout).to(DEVICE)
    encoder, prediction = (torch.randn(3, n, 4, device=DEVICE) for n in (9, 6))
    targets = torch.randint(1, 20, (3, 5), device=DEVICE)
    rest = targets, torch.tensor([9, 5, 7]), torch.tensor([5, 2, 0])

    def run(backend: str, budget: int | None) -> list[Tensor]:
        leaves = [encoder.clone().requires_grad_(), prediction.clone().requires_grad_()]
        torch.manual_seed(1)  # the same dropout
        loss = fused_full_sum_loss(
            leaves[0],
            leaves[1],
            joint,
            *rest,
            topology=topology,
            backend=backend,
            memory_budget=budget,
            negligible=0.0,
        )
        return [loss, *torch.autograd.grad(loss, [*leaves, *joint.parameters()])]

    found = run(backend, 1)  # the smallest chunks, of 16 cells
    for ours, theirs in zip(found, run("torch", None), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-6)
    if backend == "triton_fused" or DEVICE == "cpu":  # the others add up atomically on a GPU
        for once, again in zip(found, run(backend, 1), strict=True):
            assert torch.equal(once, again)


@runs_kernels
def test_an_impossible_sequence_has_zero_gradient() -> None:
    logits, targets, _, _ = grid_batch()
    logits = logits.nan_to_num(0.5).requires_grad_()
    lengths, target_lengths = torch.tensor([2, 6, 6]), torch.tensor([3, 3, 3])
    losses = full_sum_loss(
        logits, targets, lengths, target_lengths, reduction="none", backend="triton"
    )
    assert torch.isposinf(losses).tolist() == [True, False, False]
    losses[1:].sum().backward()
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all()
    assert torch.isfinite(logits.grad).all()


def signatures() -> list[tuple[str, Callable[[], Any], dict[str, str], dict[str, Any]]]:
    """Each kernel with the argument types it is launched with."""
    import triton.language as tl

    from espnet_plugin.lattice import triton_recursion
    from espnet_plugin.losses.engines import triton_rows

    cases: list[tuple[str, Callable[[], Any], dict[str, str], dict[str, Any]]] = []
    for dtype in ("bf16", "fp16", "fp32", "fp64"):
        acc = "fp64" if dtype == "fp64" else "fp32"
        constants = {"ACC": getattr(tl, "float64" if acc == "fp64" else "float32"), "BLOCK": 1024}
        sizes = {"blank": "i32", "vocab_size": "i32"}
        constexpr = dict.fromkeys(constants, "constexpr")
        rows = {"logits_ptr": f"*{dtype}", "labels_ptr": "*i64"}
        outputs = {"blank_out": f"*{acc}", "label_out": f"*{acc}"}
        weights = {"w_blank_ptr": f"*{acc}", "w_label_ptr": f"*{acc}", "slope_ptr": f"*{dtype}"}
        cases += [
            (
                f"arc_scores {dtype}",
                lambda: triton_rows._arc_scores_kernel,
                {**rows, **outputs, **sizes, **constexpr},
                constants,
            ),
            (
                f"slopes {dtype}",
                lambda: triton_rows._slopes_kernel,
                {**rows, **weights, **sizes, **constexpr},
                constants,
            ),
        ]
    buffers = dict.fromkeys(("blank_ptr", "label_ptr", "alpha_ptr"), "*fp64")
    numbers = dict.fromkeys(("steps", "row_stride", "label_row_stride", "width"), "i32")
    cases.append(
        (
            "recursion",
            lambda: triton_recursion._recursion_kernel,
            {**buffers, **numbers, "BLOCK": "constexpr"},
            {"BLOCK": 256},
        )
    )
    return cases


@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled by the interpreter")
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton brings its own assembler, so machine code can be made without a GPU."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for name, kernel, signature, constants in signatures():
        source = ASTSource(kernel(), signature, constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert compiled.asm["cubin"], name
