"""The plan as tables for people: stages, times on other devices, and what is measured or scaled."""

from __future__ import annotations

from collections.abc import Sequence

from espnet_plugin.pipeline.state.reference_system import reference_hours
from espnet_plugin.planning.data_size import DataSize
from espnet_plugin.planning.devices import DeviceClass
from espnet_plugin.planning.estimate import (
    StageEstimate,
    encoder_pass_seconds,
    reached,
    seconds_on,
)
from espnet_plugin.planning.probe_result import Probe

GIB = float(1 << 30)
_HEADINGS = (
    "stage", "loss", "epochs", "batches/epoch", "updates", "frames/batch", "hours of speech",
    "memory GiB",
)  # fmt: skip


def stage_table(estimates: Sequence[StageEstimate], gpus: int = 0, markdown: bool = False) -> str:
    """One row a stage, and their sum.

    Args:
        gpus: that train together; 0: a CPU.
    """
    rows = [_row(estimate, max(1, gpus)) for estimate in estimates]
    total = [estimate.seconds for estimate in estimates]
    known = all(seconds is not None for seconds in total)
    seconds = sum(each or 0.0 for each in total)
    speech = sum(e.speech_hours or 0.0 for e in estimates)
    last = [
        "all",
        *[""] * 5,
        f"{speech:,.0f}",
        "",
        _hours(seconds * max(1, gpus)) if known else "-",
    ]
    headings = [*_HEADINGS, "GPU-hours" if gpus else "hours"]
    if gpus > 1:
        headings.append(f"hours on {gpus}")
        last.append(_hours(seconds) if known else "-")
    rows.append(last)
    return table(headings, rows, markdown)


def _row(estimate: StageEstimate, gpus: int) -> list[str]:
    batches = estimate.batches
    mark = "~" if estimate.scaled else ""
    memory = "-"
    if estimate.error is not None:
        memory = estimate.error
    elif estimate.memory_bytes is not None:
        memory = f"{mark}{estimate.memory_bytes / GIB:.1f}"
    return [
        estimate.name,
        estimate.loss,
        "budget" if estimate.epochs is None else str(estimate.epochs),
        f"{batches.count:,}",
        "-" if estimate.updates is None else f"{estimate.updates:,}",
        f"{batches.mean_frames:,.0f}",
        "-" if estimate.speech_hours is None else f"{estimate.speech_hours:,.0f}",
        memory,
        *_times(estimate, gpus, mark),
    ]


def _times(estimate: StageEstimate, gpus: int, mark: str) -> list[str]:
    """Hours of all devices together, and of the clock where that is something else."""
    if estimate.seconds is None:
        return ["-"] * (1 + (gpus > 1))
    own = f"{mark}{_hours(estimate.seconds * gpus)}"
    return [own] if gpus == 1 else [own, f"{mark}{_hours(estimate.seconds)}"]


def device_table(
    estimates: Sequence[StageEstimate],
    devices: Sequence[DeviceClass],
    utilisation: float | None,
    markdown: bool = False,
) -> str:
    """Hours on other devices, from operations; all of it scaled, nothing measured there."""
    rows = []
    for device in devices:
        seconds = [seconds_on(device, estimate, utilisation) for estimate in estimates]
        known = [value for value in seconds if value is not None]
        total = "-" if len(known) < len(seconds) else _hours(sum(known))
        most = max((e.memory_bytes or 0.0 for e in estimates), default=0.0)
        fits = f"{most / GIB:.0f} of {device.memory:.0f}" + (
            "" if most < device.memory * GIB else " (too much)"
        )
        each = ["-" if value is None else _hours(value) for value in seconds]
        rows.append([device.name, *each, total, fits])
    headings = ["GPU", *(e.name for e in estimates), "all, hours", "memory GiB"]
    return table(headings, rows, markdown)


def data_line(name: str, data: DataSize) -> str:
    """What is known about a data set."""
    count = len(data.lengths)
    return (
        f"{name}: {data.hours:,.1f} hours, {count:,} utterances of "
        f"{data.seconds_per_utterance:.1f} s, {data.labels_per_second:.1f} labels a second "
        f"({data.source})"
    )


def probe_lines(probe: Probe, estimates: Sequence[StageEstimate], train: DataSize) -> list[str]:
    """Where the numbers come from: what was measured, what is scaled, what is left out."""
    threads = f", {probe.threads} thread{'s' * (probe.threads > 1)}" if probe.kind == "cpu" else ""
    lines = [
        f"measured on {probe.device}{threads}, {probe.date}: one random batch a stage, forward, "
        f"backward and optimizer; matrix products run at {probe.product_rate / 1e9:,.0f} GFLOP/s"
    ]
    shares = reached(probe)
    for estimate in estimates:
        stage = probe.stages.get(estimate.name)
        if stage is None or stage.error is not None:
            continue
        lines.append(
            f"  {estimate.name}: {stage.seconds:.3f} s for {stage.frames:,.0f} frames + "
            f"{stage.optimizer_seconds:.3f} s optimizer, {stage.flops / 1e9:,.0f} GFLOP "
            f"({100 * shares[estimate.name]:.0f} % of the rate of products), "
            f"{stage.launches:,} operations dispatched, "
            f"{stage.parameters / 1e6:.1f} M parameters, {stage.state_bytes / GIB:.2f} GiB for "
            f"them and the optimizer, {stage.activation_bytes / GIB:.2f} GiB kept for backward"
        )
    if any(estimate.scaled for estimate in estimates):
        lines.append("~ scaled: the probe's batch was smaller than the stage's; by its frames")
    seconds = [estimate.seconds for estimate in estimates]
    if all(value is not None for value in seconds):
        total = sum(value or 0.0 for value in seconds)
        lines.append(
            f"reference-system time: {reference_hours(total, probe.reference_seconds):,.1f} hours "
            f"(a reference step takes {probe.reference_seconds * 1e3:.1f} ms here)"
        )
    each = encoder_pass_seconds(train, probe)
    if each is not None:
        lines.append(
            f"jobs between the stages, one process: ~{_hours(each)} hours for every pass of the "
            "training data through the encoder; an alignment with a label prior takes two, N-best "
            "lists one and the search"
        )
    lines.append("not in it: the search, language models, decoding, waiting for data")
    return lines


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    markdown: bool = False,
    left: int = 2,
) -> str:
    """Columns aligned with spaces, the first ``left`` to the left, or a Markdown table."""
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in (headings, *rows)]
        return "\n".join([lines[0], "|" + " --- |" * len(headings), *lines[1:]])
    widths = [max(len(row[n]) for row in (headings, *rows)) for n in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headings, *rows)
    )


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
