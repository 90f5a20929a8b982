"""Speed and memory of the full-sum losses, forward and backward, joint network included.

    python benchmarks/loss.py --shape 8,250,40,79            # time, all contestants interleaved
    python benchmarks/loss.py --shape 8,250,40,79 --memory   # peak extra memory, one process each
    python benchmarks/loss.py --growth                       # doubling B, T, S and V in turn
    python benchmarks/loss.py --twice --threads 2 --shape 2,200,50,5000   # two at once on a machine

Shapes are B,T,S,V; the joint has 640 units, encoder and prediction outputs 512 and 640, or all
three as many as --units says (not of --growth). Times
are medians over repeats in which the contestants take turns. On a CPU both wall-clock and the
process's own CPU time are given: the second hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from benchmarks.together import report_together, wait_and_time
from espnet_plugin.losses import (
    alignment_band,
    full_sum_loss,
    fused_full_sum_loss,
    lf_mmi_loss,
    pruned_restriction,
    simple_full_sum_loss,
)
from espnet_plugin.nn import JointNetwork

ENCODER, PREDICTION, JOINT = 512, 640, 640
Shape = tuple[int, int, int, int]


@dataclass
class Problem:
    """One batch of full-length sequences and a joint network."""

    joint: JointNetwork
    encoder: Tensor
    prediction: Tensor
    targets: Tensor
    lengths: Tensor
    target_lengths: Tensor
    simple: tuple[torch.nn.Linear, torch.nn.Linear]
    contexts: Tensor

    @classmethod
    def make(
        cls,
        shape: Shape,
        device: str,
        dtype: torch.dtype,
        sharpness: float,
        units: int | None = None,
    ) -> Problem:
        """Random problem; ``sharpness`` scales the output layer (1: as initialised)."""
        batch, frames, labels, vocab_size = shape
        sizes = (ENCODER, PREDICTION, JOINT) if units is None else (units, units, units)
        torch.manual_seed(0)
        joint = JointNetwork(*sizes, vocab_size).to(device, dtype)
        with torch.no_grad():
            joint.output.weight *= sharpness
        return cls(
            joint,
            torch.randn(batch, frames, sizes[0]).to(device, dtype).requires_grad_(),
            torch.randn(batch, labels + 1, sizes[1]).to(device, dtype).requires_grad_(),
            torch.randint(1, vocab_size, (batch, labels)).to(device),
            torch.full((batch,), frames),
            torch.full((batch,), labels),
            (
                torch.nn.Linear(sizes[0], vocab_size).to(device, dtype),
                torch.nn.Linear(sizes[1], vocab_size).to(device, dtype),
            ),
            torch.randn(vocab_size, sizes[1]).to(device, dtype).requires_grad_(),
        )

    def logits(self) -> Tensor:
        """The whole grid, [B, T, S+1, V]."""
        return self.joint(self.encoder[:, :, None], self.prediction[:, None])

    @property
    def rest(self) -> tuple[Tensor, Tensor, Tensor]:
        """Targets and the two lengths."""
        return self.targets, self.lengths, self.target_lengths


def fused(problem: Problem, topology: str) -> Tensor:
    """Our fused loss."""
    return fused_full_sum_loss(
        problem.encoder, problem.prediction, problem.joint, *problem.rest, topology=topology
    )


def grid(problem: Problem) -> Tensor:
    """Our loss on materialised logits."""
    return full_sum_loss(problem.logits(), *problem.rest, topology="rnnt")


def band(problem: Problem) -> Tensor:
    """Our fused loss within 10 frames around an even alignment."""
    batch, frames = problem.encoder.shape[:2]
    labels = problem.targets.shape[1]
    alignment = torch.zeros(batch, frames, dtype=torch.long)
    alignment[:, (torch.arange(labels) + 1) * frames // (labels + 1)] = 1
    alignment = alignment.to(problem.encoder.device)
    limits = alignment_band(alignment, problem.lengths, problem.target_lengths, left=10, right=10)
    return fused_full_sum_loss(
        problem.encoder, problem.prediction, problem.joint, *problem.rest, restriction=limits
    )


def pruned(problem: Problem) -> Tensor:
    """Simple joint, pruning to 5 label positions a frame, fused loss inside; both losses."""
    am, lm = problem.simple[0](problem.encoder), problem.simple[1](problem.prediction)
    simple = simple_full_sum_loss(am, lm, *problem.rest)
    window = pruned_restriction(am, lm, *problem.rest, s_range=5)
    return 0.5 * simple + fused_full_sum_loss(
        problem.encoder, problem.prediction, problem.joint, *problem.rest, restriction=window
    )


def lf_mmi(problem: Problem) -> Tensor:
    """Our MMI over all label sequences, with a bigram that knows nothing."""
    size = len(problem.contexts)
    bigram = torch.full((size, size + 1), -1.0).to(problem.contexts)
    return lf_mmi_loss(
        problem.encoder, problem.contexts, problem.joint, *problem.rest, bigram, lm_scale=0.3
    )


def torchaudio_loss(problem: Problem) -> Tensor:
    """torchaudio on materialised logits."""
    from torchaudio.functional import rnnt_loss

    device = problem.encoder.device
    lengths = (x.to(device, torch.int32) for x in (problem.lengths, problem.target_lengths))
    return rnnt_loss(problem.logits(), problem.targets.int(), *lengths, blank=0)


def espnet_numba(problem: Problem) -> Tensor:
    """ESPnet's own loss on materialised logits."""
    from espnet2.asr.transducer.rnnt_multi_blank.rnnt_multi_blank import RNNTLossNumba

    loss = RNNTLossNumba(blank=0, reduction="none")
    lengths = (problem.lengths.int(), problem.target_lengths.int())
    return loss(problem.logits(), problem.targets.int(), *lengths).mean()


def warp_rnnt(problem: Problem) -> Tensor:
    """1ytic's package on log-probabilities, gathered."""
    from warp_rnnt import rnnt_loss

    device = problem.encoder.device
    lengths = (x.to(device, torch.int32) for x in (problem.lengths, problem.target_lengths))
    log_probs = problem.logits().float().log_softmax(-1)
    return rnnt_loss(log_probs, problem.targets.int(), *lengths, reduction="mean", gather=True)


def naive(problem: Problem) -> Tensor:
    """Autograd through a recursion over frames and labels, batched over sequences only."""
    log_probs = problem.logits().log_softmax(-1)
    frames, labels = log_probs.shape[1], problem.targets.shape[1]
    index = problem.targets[:, None, :, None].expand(-1, frames, -1, 1)
    emit = log_probs[:, :, :-1].gather(3, index).squeeze(3)
    blank = log_probs[..., 0]
    row: list[Tensor] = []
    for t in range(frames):
        above, row = row, []
        for u in range(labels + 1):
            ways = []
            if t > 0:
                ways.append(above[u] + blank[:, t - 1, u])
            if u > 0:
                ways.append(row[u - 1] + emit[:, t, u - 1])
            if not ways:
                row.append(torch.zeros_like(blank[:, 0, 0]))
            else:
                row.append(ways[0] if len(ways) == 1 else torch.logaddexp(*ways))
    return -(row[-1] + blank[:, -1, -1]).mean()


CONTESTANTS: dict[str, Callable[[Problem], Tensor]] = {
    "fused rnnt": lambda problem: fused(problem, "rnnt"),
    "fused monotonic": lambda problem: fused(problem, "monotonic"),
    "fused band 10+10": band,
    "fused pruned 5": pruned,
    "lf_mmi": lf_mmi,
    "grid rnnt": grid,
    "torchaudio": torchaudio_loss,
    "naive autograd": naive,
    "espnet numba": espnet_numba,
    "warp_rnnt": warp_rnnt,
}


def step(problem: Problem, name: str) -> None:
    """Forward and backward."""
    CONTESTANTS[name](problem).backward()
    if problem.encoder.is_cuda:
        torch.cuda.synchronize()


def timed_step(problem: Problem, name: str) -> tuple[float, float]:
    """Wall-clock and CPU seconds of one step."""
    wall, cpu = time.perf_counter(), time.process_time()
    step(problem, name)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_time(
    problem: Problem, names: list[str], repeats: int
) -> dict[str, tuple[float, float]]:
    """Median wall-clock and CPU seconds of each contestant."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for name in names:
        step(problem, name)
    for _ in range(repeats):
        for name in names:
            seconds[name].append(timed_step(problem, name))
    return {
        name: (statistics.median(w for w, _ in runs), statistics.median(c for _, c in runs))
        for name, runs in seconds.items()
    }


def resident(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {field}")


def measure_memory(problem: Problem, name: str) -> float:
    """Peak memory above what the inputs take, MiB, of one step (in a process of its own)."""
    if problem.encoder.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(problem, name)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    small = Problem.make((1, 8, 2, 16), "cpu", problem.encoder.dtype, 1.0)
    step(small, name)  # libraries load and make their own buffers
    del small
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = resident("VmRSS")
    step(problem, name)
    return (resident("VmHWM") - before) / 2**20


def machine(device: str, threads: int) -> str:
    """One line on where this ran."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {threads} thread(s), torch {torch.__version__}"


def report_time(problem: Problem, names: list[str], repeats: int, against: str) -> None:
    """Print one Markdown table row per contestant."""
    results = measure_time(problem, names, repeats)
    print(f"| loss | wall s | CPU s | CPU time / {against} |\n| --- | --- | --- | --- |")
    base = results.get(against, (float("nan"), float("nan")))[1]
    for name, (wall, cpu) in results.items():
        print(f"| {name} | {wall:.3f} | {cpu:.3f} | {cpu / base:.2f} |", flush=True)


def report_memory(arguments: argparse.Namespace, shape: Shape, names: list[str]) -> None:
    """Print peak extra memory, each contestant in its own process."""
    print("| loss | peak extra MiB |\n| --- | --- |")
    for name in names:
        command = [sys.executable, __file__, "--one_memory", name]
        command += ["--shape", ",".join(map(str, shape)), "--device", arguments.device]
        command += ["--sharpness", str(arguments.sharpness), "--threads", str(arguments.threads)]
        command += [] if arguments.units is None else ["--units", str(arguments.units)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        failed = result.stderr.strip().splitlines()[-1:] or ["killed"]
        print(f"| {name} | {result.stdout.strip() or failed[0]} |", flush=True)


def report_growth(arguments: argparse.Namespace, names: list[str]) -> None:
    """Print time and memory as each axis doubles."""
    base: Shape = (2, 100, 20, 200)
    print(f"From {base}; factors relative to it.\n\n| loss | axis | CPU time | memory |")
    print("| --- | --- | --- | --- |")
    for name in names:
        first: tuple[float, float] | None = None
        for axis, letter in enumerate("-BTSV"):
            shape = list(base)
            if letter != "-":
                shape[axis - 1] *= 2
            problem = Problem.make((*shape,), arguments.device, torch.float32, 1.0)
            cpu = measure_time(problem, [name], arguments.repeats)[name][1]
            command = [sys.executable, __file__, "--one_memory", name]
            command += ["--shape", ",".join(map(str, shape)), "--device", arguments.device]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            memory = float(result.stdout)
            if first is None:
                first = (cpu, memory)
                print(f"| {name} | | {cpu:.3f} s | {memory:.0f} MiB |", flush=True)
            else:
                factors = f"x {cpu / first[0]:.2f} | x {memory / first[1]:.2f}"
                print(f"| {name} | 2 {letter} | {factors} |", flush=True)


def command_line() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8,250,40,79", help="B,T,S,V")
    parser.add_argument("--losses", default="fused rnnt,fused monotonic,torchaudio,grid rnnt")
    parser.add_argument("--against", default="torchaudio")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sharpness", type=float, default=1.0)
    parser.add_argument("--units", type=int, help="of joint, encoder and prediction outputs")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--twice", action="store_true", help="alone, and two processes at once")
    parser.add_argument("--one_memory", help=argparse.SUPPRESS)
    parser.add_argument("--one_together", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Command line."""
    parser = command_line()
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    batch, frames, labels, vocab_size = (int(n) for n in arguments.shape.split(","))
    shape = (batch, frames, labels, vocab_size)
    names = arguments.losses.split(",")
    if unknown := set(names) - set(CONTESTANTS):
        parser.error(f"unknown losses {sorted(unknown)}; choose from {list(CONTESTANTS)}")
    dtype = getattr(torch, arguments.dtype)
    made = (shape, arguments.device, dtype, arguments.sharpness, arguments.units)
    if arguments.one_memory:
        problem = Problem.make(shape, arguments.device, dtype, arguments.sharpness, arguments.units)
        print(f"{measure_memory(problem, arguments.one_memory):.1f}")
        return
    if arguments.one_together:
        problem = Problem.make(*made)
        wait_and_time(lambda: timed_step(problem, arguments.one_together), arguments.repeats)
        return
    what = "" if arguments.growth else f"(B, T, S, V) = {shape}, "
    print(f"\n{what}{arguments.dtype}, sharpness {arguments.sharpness:g}; ", end="")
    print(machine(arguments.device, arguments.threads) + "\n")
    if arguments.growth:
        report_growth(arguments, names)
    elif arguments.twice:
        options = ["--shape", arguments.shape, "--threads", str(arguments.threads)]
        options += ["--repeats", str(arguments.repeats), "--dtype", arguments.dtype]
        options += [] if arguments.units is None else ["--units", str(arguments.units)]
        report_together([*options, "--sharpness", str(arguments.sharpness)], names)
    elif arguments.memory:
        report_memory(arguments, shape, names)
    else:
        problem = Problem.make(shape, arguments.device, dtype, arguments.sharpness, arguments.units)
        report_time(problem, names, arguments.repeats, arguments.against)


if __name__ == "__main__":
    main()
