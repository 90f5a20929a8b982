"""Wall-clock of every step of a pipeline, from its ``pipeline.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.pipeline.state.reference_system import reference_time
from espnet_plugin.pipeline.state.state import PipelineState, StepState
from espnet_plugin.report.epoch_stats import read_epochs


def training_notes(exp: Path) -> list[str]:
    """Return Markdown lines: a table with state, epochs and wall-clock of every step.

    Where training measured the machine, a last column has the time on the reference system.
    No line for an experiment that no pipeline has begun.

    Raises:
        ValueError: a pipeline.json that cannot be read.
    """
    state = PipelineState.load(exp / "pipeline.json")
    names = [name for name in (state.plan or state.steps) if name in state.steps]
    if not names:
        return []
    steps = [state.steps[name] for name in names]
    reference = reference_times(steps)
    known = any(time is not None for time in reference)
    lines = ["### Training", "", "|step|status|epochs|wall-clock|", "|---|---|---|---|"]
    for name, step in zip(names, steps, strict=True):
        lines.append(f"|{name}|{step.status}|{_epochs(exp, name, step)}|{clock(step.seconds)}|")
    lines.append(f"|**all**|||{clock(sum(step.seconds for step in steps))}|")
    if known:
        complete = [time for time in reference if time is not None]
        total = clock(sum(complete)) if len(complete) == len(reference) else ""
        column = ["reference time|", "---|", *(_clock_or_none(time) for time in reference)]
        lines[2:] = [
            line + cell for line, cell in zip(lines[2:], [*column, f"{total}|"], strict=True)
        ]
    return [*lines, ""]


def clock(seconds: float) -> str:
    """Seconds as ``h:mm:ss``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def _clock_or_none(seconds: float | None) -> str:
    return "|" if seconds is None else f"{clock(seconds)}|"


def reference_times(steps: Sequence[StepState]) -> list[float | None]:
    """Reference-system seconds of every step, None where they cannot be told.

    A job has the speed that a training on the same machine measured last.
    """
    hosts: dict[str, float] = {}
    for step in steps:
        for span in step.spans:
            if span["reference_step_seconds"]:
                hosts[span["host"]] = span["reference_step_seconds"]
    return [reference_time(step.spans, hosts) for step in steps]


def _epochs(exp: Path, name: str, step: StepState) -> str:
    if not name.startswith("train:"):
        return ""
    trained = len(read_epochs(exp / (step.folder or name.removeprefix("train:"))))
    return f"{trained} of {step.max_epoch}" if step.max_epoch else str(trained)
