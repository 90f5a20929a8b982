"""The state of a pipeline as a table, with estimates of the time left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espnet_plugin.pipeline.pipeline import Pipeline
from espnet_plugin.pipeline.plan.stage_plan import Step
from espnet_plugin.pipeline.state.freshness import display_status, staleness
from espnet_plugin.pipeline.state.lock import is_locked
from espnet_plugin.pipeline.state.progress import LogTail, clock
from espnet_plugin.pipeline.state.state import PipelineState


@dataclass(frozen=True)
class Row:
    """One step of the table; times in seconds."""

    step: str
    status: str
    seconds: float
    left: float | None
    note: str


def step_rows(pipeline: Pipeline) -> list[Row]:
    """Status of every step.

    Raises:
        ValueError: the data that fingerprints need is missing.
    """
    state, prints = pipeline.load_state(), pipeline.fingerprints()
    locked = is_locked(pipeline.exp)
    rows = []
    for step in pipeline.steps:
        status, known = display_status(step, state, prints, pipeline.exp, locked)
        left, note = None, known.message or ""
        if status == "stale":
            note = staleness(step, state, prints, pipeline.exp) or ""
        elif step.kind == "train" and status in ("running", "interrupted"):
            left, note = _training_progress(pipeline, step, status)
        rows.append(Row(step.name, status, known.seconds, left, note))
    return rows + decode_rows(state)


def decode_rows(state: PipelineState) -> list[Row]:
    """Decodings are no part of the plan: what was done is listed."""
    return [
        Row(name, step.status, step.seconds, None, step.message or "")
        for name, step in state.steps.items()
        if name.startswith("decode:")
    ]


def format_rows(rows: Sequence[Row]) -> str:
    """A table for people."""
    width = max(len(row.step) for row in rows)
    lines = [f"{'step':<{width}}  {'status':<11}  {'time':>8}  {'ETA':>8}  note"]
    for row in rows:
        time = clock(row.seconds) if row.seconds else "-"
        left = clock(row.left) if row.left is not None else "-"
        line = f"{row.step:<{width}}  {row.status:<11}  {time:>8}  {left:>8}  {row.note}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _training_progress(pipeline: Pipeline, step: Step, status: str) -> tuple[float | None, str]:
    tail = LogTail(pipeline.exp / step.folder / "train.log")
    tail.read()
    if not tail.max_epoch:
        return None, "starting"
    each = tail.seconds_per_epoch()
    if status == "interrupted":
        left = None if each is None else each * (tail.max_epoch - tail.epoch + 1)
    else:
        left = tail.seconds_left()
    return left, f"epoch {tail.epoch}/{tail.max_epoch}"
