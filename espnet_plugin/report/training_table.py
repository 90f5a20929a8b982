"""Wall-clock of every step of a pipeline, from its ``pipeline.json``."""

from __future__ import annotations

from pathlib import Path

from espnet_plugin.report.epoch_stats import read_epochs
from espnet_plugin.stages.state import PipelineState, StepState


def training_notes(exp: Path) -> list[str]:
    """Return Markdown lines: a table with state, epochs and wall-clock of every step.

    No line for an experiment that no pipeline has begun.

    Raises:
        ValueError: a pipeline.json that cannot be read.
    """
    state = PipelineState.load(exp / "pipeline.json")
    names = [name for name in (state.plan or state.steps) if name in state.steps]
    if not names:
        return []
    lines = ["### Training", "", "|step|status|epochs|wall-clock|", "|---|---|---|---|"]
    for name in names:
        step = state.steps[name]
        lines.append(f"|{name}|{step.status}|{_epochs(exp, name, step)}|{clock(step.seconds)}|")
    total = sum(state.steps[name].seconds for name in names)
    return [*lines, f"|**all**|||{clock(total)}|", ""]


def clock(seconds: float) -> str:
    """Seconds as ``h:mm:ss``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def _epochs(exp: Path, name: str, step: StepState) -> str:
    if not name.startswith("train:"):
        return ""
    trained = len(read_epochs(exp / (step.folder or name.removeprefix("train:"))))
    return f"{trained} of {step.max_epoch}" if step.max_epoch else str(trained)
