"""Reference-system time: what a training would have taken on one agreed machine.

Seconds on two machines cannot be compared. Kaddour et al., "No Train No Gain: Revisiting Efficient
Training Algorithms For Transformer-based Language Models" (arXiv 2307.06440, section 3), therefore
time a fixed step on every machine and count budgets in time of a reference system:

    RST = seconds · (reference step on the reference system / reference step on this machine)

The reference step is one training step of two `torch.nn.TransformerEncoderLayer` of width 512 with
8 heads and 2048 hidden units, ReLU, no dropout, on 8 sequences of 32 frames: the mean square of the
output as loss, backward, SGD. A GPU, which would idle at so small a batch, gets 64 times as many
sequences, and the time is divided by 64. The step is timed in the process that trains, before it
trains, with that process's threads. On a CPU it is the processor time of the thread that leads the
step: what else a machine happens to do in one second must not decide the value of a week. For the
same reason a training on CPUs counts with its processor time, divided by its threads, and not with
the hours in which it shared the machine or was stopped. Processes that only bring data have no part
in it.
"""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically

FILE = "reference_step.json"
PROCESSOR_FILE = "processor_time.json"
#: Seconds of a reference step on the reference system: one core of an AMD EPYC (Zen 4, AVX-512,
#: 2.6 GHz) virtual machine, torch 2.14.1, one thread, 2026-11-22: median of 0.118 to 0.128 s.
REFERENCE_SECONDS = 0.122
_SEQUENCES, _FRAMES, _SIZE, _HEADS, _HIDDEN = 8, 32, 512, 8, 2048
_GPU_FACTOR = 64
_HOLDS_SECONDS = 600.0


def measure_reference_step(device: str = "cpu", repeats: int = 3) -> float:
    """Seconds of a reference step on this machine; leaves all random generators as they were."""
    import torch

    cuda = device.startswith("cuda")
    factor = _GPU_FACTOR if cuda else 1
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.manual_seed(0)
        layer = torch.nn.TransformerEncoderLayer(
            _SIZE, _HEADS, _HIDDEN, dropout=0.0, batch_first=True
        )
        model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).to(device)
        frames = torch.randn(_SEQUENCES * factor, _FRAMES, _SIZE).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    clock = time.perf_counter if cuda else time.thread_time
    times = []
    for _ in range(repeats + 1):  # the first one warms up
        begun = clock()
        optimizer.zero_grad()
        model(frames).square().mean().backward()
        optimizer.step()
        if cuda:
            torch.cuda.synchronize(device)
        times.append(clock() - begun)
    return statistics.median(times[1:]) / factor


def reference_hours(seconds: float, step_seconds: float) -> float:
    """Hours on the reference system of so many seconds here.

    Raises:
        ValueError: a step that took no time.
    """
    if not step_seconds > 0:
        raise ValueError(f"a reference step's time must be positive, got {step_seconds} s")
    return seconds * REFERENCE_SECONDS / step_seconds / 3600


def reference_time(spans: Sequence[Mapping[str, Any]], steps: Mapping[str, float]) -> float | None:
    """Reference-system time in seconds of a step's attempts; None where it cannot be told.

    Args:
        spans: attempts, as `StepState.spans` has them; processor time counts where it is known.
        steps: host -> a reference step there, for attempts in which none was measured.
    """
    total = 0.0
    for span in spans:
        step = span["reference_step_seconds"] or steps.get(span["host"])
        seconds = span.get("processor_seconds") or span["seconds"]
        if step is None and seconds > 0:
            return None
        total += seconds * REFERENCE_SECONDS / step if step else 0.0
    return total if spans else None


def write_reference_step(folder: Path, device: str) -> None:
    """Leave a reference step's time in a training's folder for the pipeline to read.

    What an earlier stage of the same experiment measured here in the last minutes is taken over.
    """
    import torch

    where = {"host": socket.gethostname(), "device": device, "threads": torch.get_num_threads()}
    seconds = _recent(folder, where)
    if seconds is None:
        seconds = measure_reference_step(device)
    text = json.dumps({"reference_step_seconds": seconds, **where})
    write_atomically(folder / FILE, text + "\n")


def write_processor_time(folder: Path) -> None:
    """Leave this process's processor time so far, divided by its threads, beside that."""
    import torch

    threads = torch.get_num_threads()
    seconds = time.process_time() / threads
    text = json.dumps({"processor_seconds": seconds, "threads": threads})
    write_atomically(folder / PROCESSOR_FILE, text + "\n")


def _recent(folder: Path, where: Mapping[str, Any]) -> float | None:
    """A measurement of a neighbouring folder that still holds."""
    for path in folder.parent.glob(f"*/{FILE}"):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            fresh = time.time() - path.stat().st_mtime < _HOLDS_SECONDS
            if fresh and all(found.get(key) == value for key, value in where.items()):
                return float(found["reference_step_seconds"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def measurement_stamp(folder: Path, file: str = FILE) -> tuple[int, int] | None:
    """Tells one measurement's file from the next one's; None if there is none.

    Not compared with this machine's clock: file systems have their own, and theirs are coarser.
    """
    try:
        status = (folder / file).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def read_reference_step(folder: Path, before: tuple[int, int] | None = None) -> float | None:
    """What `write_reference_step` left since the stamp ``before``; None if there is nothing."""
    return _read(folder, FILE, "reference_step_seconds", before)


def read_processor_time(folder: Path, before: tuple[int, int] | None = None) -> float | None:
    """What `write_processor_time` left since the stamp ``before``; None if there is nothing."""
    return _read(folder, PROCESSOR_FILE, "processor_seconds", before)


def _read(folder: Path, file: str, key: str, before: tuple[int, int] | None) -> float | None:
    if measurement_stamp(folder, file) == before:
        return None
    try:
        return float(json.loads((folder / file).read_text(encoding="utf-8"))[key])
    except (OSError, ValueError, KeyError, TypeError):
        return None
